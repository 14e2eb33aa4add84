"""The forms that panels and queries of the dashboard have."""

from __future__ import annotations

from collections.abc import Mapping

from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DashboardLink as DashboardLinkModel
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef, Threshold, ThresholdsMode

# As in ../prometheus/alerts.yml: put your own address in its place.
RUNBOOK = "https://example.com/deploy/RUNBOOK.md"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24
STAT_HEIGHT, SERIES_HEIGHT = 4, 8


def number(
    title: str, expression: str, *, unit: str, section: str | None = None, red_from: float | None = None
) -> Stat:
    """Return a panel with one number.

    Args:
        title: its title.
        expression: the query.
        unit: Grafana's name of its unit.
        section: the runbook's section, as an anchor, on what to do about it; None where nothing is.
        red_from: from which value on it is red, None if that is not a matter of good and bad.
    """
    steps = [Threshold(value=None, color="green")]
    if red_from is not None:
        steps.append(Threshold(value=red_from, color="red"))
    return (
        Stat()
        .title(title)
        .links(_links(section))
        .datasource(SOURCE)
        .unit(unit)
        .span(WIDTH // 6)
        .height(STAT_HEIGHT)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(_query("A", "", expression))
    )


def series(
    title: str, queries: Mapping[str, str], *, unit: str, section: str | None = None, about: str = ""
) -> Timeseries:
    """Return a panel that shows series over time.

    Args:
        title: its title.
        queries: the name of its series, with labels in double braces → the query.
        unit: Grafana's name of their unit.
        section: the runbook's section, as an anchor, on what to do about them; None where nothing is.
        about: what one must know to read it.
    """
    panel = (
        Timeseries()
        .title(title)
        .description(about)
        .links(_links(section))
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .fill_opacity(10)
        .span(WIDTH // 3)
        .height(SERIES_HEIGHT)
        .legend(
            VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    for position, (name, expression) in enumerate(queries.items()):
        panel.with_target(_query(chr(ord("A") + position), name, expression))
    return panel


def rate(counter: str, *labels: str, where: str = "") -> str:
    """Return the rate of a counter over all processes, by these labels."""
    return f"sum by ({', '.join(labels)}) (rate(fleet:{counter}:sum{where}[$__rate_interval]))"


def quantile(share: float, histogram: str, *labels: str) -> str:
    """Return a quantile of what all processes have observed, by these labels."""
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', 'le', *labels)})"


def mean(histogram: str) -> str:
    """Return the mean of what all processes have observed."""
    return f"{rate(f'{histogram}_sum')} / {rate(f'{histogram}_count')}"


def share(counter: str, where: str, among: str = "") -> str:
    """Return the share that the series with some labels have in the rate of a counter, 0 if there are none."""
    return f"({rate(counter, where=where)} or vector(0)) / {rate(counter, where=among)}"


def _links(section: str | None) -> list[Builder[DashboardLinkModel]]:
    if section is None:
        return []
    return [DashboardLink("Runbook").type(DashboardLinkType.LINK).url(f"{RUNBOOK}#{section}").target_blank(True)]


def _query(ref_id: str, name: str, expression: str) -> Dataquery:
    return Dataquery().ref_id(ref_id).datasource(SOURCE).expr(expression).legend_format(name).range()
