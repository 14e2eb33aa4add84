"""Worksheets: they say that no model was called, are deterministic, and start from the given facts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.llm.assignments import BRAND, PROJECT, an_assignment
from vm_webapp.llm.base import Section
from vm_webapp.llm.offline import OfflineProvider
from vm_webapp.llm.worksheet import FIRST_LINE, MAX_WEEKS, write_worksheet
from vm_webapp.workflows.loader import load_catalog

WEEKS = Section("Plan by week", ("Deliverable, channel, effort?",))


def worksheet(*sections: Section, **changes: Any) -> str:
    return write_worksheet(an_assignment(**({"sections": sections} if sections else {}), **changes))


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, its head first."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


async def test_the_provider_returns_the_worksheet_and_names_no_model() -> None:
    pieces: list[str] = []
    done = await OfflineProvider().complete(an_assignment(), on_text=pieces.append)
    assert done.text == write_worksheet(an_assignment()) == "".join(pieces)
    assert (done.provider, done.model, done.prompt_tokens, done.completion_tokens) == ("offline", None, None, None)
    assert not done.truncated


def test_the_first_line_says_that_no_model_was_called() -> None:
    first = worksheet(brand=BRAND, project=PROJECT, feedback="More").splitlines()[0]
    assert first == FIRST_LINE
    assert "no model was called" in first
    assert "KIMI_API_KEY" in first


def test_the_same_assignment_gives_the_same_bytes() -> None:
    assert worksheet(brand=BRAND, project=PROJECT) == worksheet(brand=dict(BRAND), project=dict(PROJECT))


def test_each_section_has_its_heading_and_its_questions_in_order() -> None:
    text = worksheet(Section("One", ("Why now?", "Why us?")), Section("Two"))
    expected = ["## One", "- [ ] Why now?", "- [ ] Why us?", "## Two", "- [ ] What does the reader need"]
    places = [text.index(part) for part in expected]
    assert places == sorted(places)


def test_what_brand_and_project_say_is_in_the_table_of_what_is_given() -> None:
    given = {row[0]: row[1] for row in rows(worksheet(brand=BRAND, project=PROJECT), "What is given")}
    assert given["Brand: audience"] == "Owners of dental clinics"
    assert given["Brand: facts"] == "120 clinics use it; 18 % fewer no-shows (2025)"
    assert given["Project: channels"] == "e-mail; LinkedIn"
    assert given["Project: starts on"] == "2026-03-02"


@pytest.mark.parametrize(("missing", "named"), [("brand", "this run has no brand"), ("project", "has no project")])
def test_what_is_not_given_is_to_be_agreed(missing: str, named: str) -> None:
    assert named in worksheet()
    assert named not in worksheet(**{missing: BRAND if missing == "brand" else PROJECT})


def test_each_forbidden_word_is_to_be_checked() -> None:
    text = worksheet(brand={**BRAND, "forbidden_words": ["cheap", "best\nin class"]})
    assert "- [ ] “cheap” does not appear." in text
    assert "- [ ] “best in class” does not appear." in text


def test_feedback_and_earlier_artifacts_come_before_the_sections() -> None:
    text = worksheet(feedback="Shorter.\n\n# And bolder", earlier=(("research", "Research"),))
    assert "## Changes asked for\n\n> Shorter.\n>\n> # And bolder\n" in text
    assert "## Read first\n\n- Research (`research`)\n" in text
    assert text.index("## Changes asked for") < text.index("## Read first") < text.index("## Summary")


def test_without_feedback_and_earlier_artifacts_there_is_nothing_about_them() -> None:
    text = worksheet(feedback=None, earlier=())
    assert "Changes asked for" not in text
    assert "Read first" not in text


class TestWeeks:
    @pytest.mark.parametrize(
        ("starts_on", "ends_on", "expected"),
        [
            ("2026-03-02", "2026-03-29", ["2026-03-02", "2026-03-09", "2026-03-16", "2026-03-23"]),
            ("2026-03-02", "2026-03-30", ["2026-03-02", "2026-03-09", "2026-03-16", "2026-03-23", "2026-03-30"]),
            ("2026-03-02", "2026-03-02", ["2026-03-02"]),
            ("2024-02-26", "2024-03-05", ["2024-02-26", "2024-03-04"]),
        ],
    )
    def test_each_week_of_the_project_has_a_row(self, starts_on: str, ends_on: str, expected: list[str]) -> None:
        text = worksheet(WEEKS, project={**PROJECT, "starts_on": starts_on, "ends_on": ends_on})
        assert [row[0] for row in rows(text, "Plan by week")[1:]] == expected

    def test_an_open_end_means_a_quarter(self) -> None:
        weeks = rows(worksheet(WEEKS, project={**PROJECT, "ends_on": None}), "Plan by week")[1:]
        assert (len(weeks), weeks[0][0], weeks[-1][0]) == (13, "2026-03-02", "2026-05-25")

    @pytest.mark.parametrize("project", [None, {"name": "Spring", "starts_on": None, "ends_on": None}])
    def test_without_dates_the_weeks_of_a_quarter_are_numbered(self, project: dict[str, Any] | None) -> None:
        weeks = rows(worksheet(WEEKS, project=project), "Plan by week")[1:]
        assert [row[0] for row in weeks] == [f"Week {number}" for number in range(1, 14)]

    def test_a_project_of_years_ends_in_a_row_that_says_so(self) -> None:
        weeks = rows(worksheet(WEEKS, project={**PROJECT, "ends_on": "2028-12-31"}), "Plan by week")[1:]
        assert (len(weeks), weeks[-1][0]) == (MAX_WEEKS + 1, "… to 2028-12-31")

    def test_the_columns_are_those_that_the_question_lists(self) -> None:
        assert rows(worksheet(WEEKS), "Plan by week")[0] == ["Week", "Deliverable", "Channel", "Effort"]

    @pytest.mark.parametrize("heading", ["Weekly review", "First two weeks in full", "How to read this calendar"])
    def test_a_heading_that_only_mentions_weeks_gets_no_table_of_them(self, heading: str) -> None:
        assert "2026-03-09" not in worksheet(Section(heading, ("What is it?",)), project=PROJECT)


class TestWhatIsPreparedForASection:
    @pytest.mark.parametrize(
        ("heading", "column", "expected"),
        [
            ("Channels within reach", "Channel", ["e-mail", "LinkedIn"]),
            ("Audience segments", "Segment", ["Owners of dental clinics", ""]),
            ("Evidence at hand", "Fact, as given", ["120 clinics use it", "18 % fewer no-shows (2025)"]),
            ("Value proposition and proof", "Fact, as given", ["120 clinics use it", "18 % fewer no-shows (2025)"]),
            ("Vocabulary", "Avoid", ["revolutionary"]),
            ("Objective and measure", "Objective, as given", ["50 trials"]),
        ],
    )
    def test_what_is_given_stands_where_it_is_needed(self, heading: str, column: str, expected: list[str]) -> None:
        head, *body = rows(worksheet(Section(heading, ("Why?",)), brand=BRAND, project=PROJECT), heading)
        assert (head[0], [row[0] for row in body]) == (column, expected)

    @pytest.mark.parametrize("heading", ["Channels", "Proof", "Vocabulary", "Objective", "Tone"])
    def test_without_given_facts_there_is_an_empty_draft(self, heading: str) -> None:
        assert f"## {heading}\n\n- [ ] Why?\n\n**Draft:** …\n" in worksheet(Section(heading, ("Why?",)))

    @pytest.mark.parametrize(
        ("question", "columns"),
        [
            ("Indicator, source, how often?", ["Indicator", "Source", "How often"]),
            ("Headline, support and proof of each?", ["Headline", "Support", "Proof"]),
        ],
    )
    def test_a_question_that_lists_fields_becomes_a_table_of_them(self, question: str, columns: list[str]) -> None:
        assert rows(worksheet(Section("Figures", (question,))), "Figures") == [columns, *[[""] * len(columns)] * 3]

    @pytest.mark.parametrize(
        "question",
        [
            "What, in which format, who decides?",
            "For whom, in which situation, what, unlike what?",
            "Five lines and an example?",
            "In the words that they would use themselves, every day, and nothing more than that?",
            "?",
        ],
    )
    def test_a_question_in_a_sentence_does_not(self, question: str) -> None:
        assert "|" not in worksheet(Section("Figures", (question,)))


class TestWhatPeopleType:
    NASTY = "a | b\n# not a heading\r\n- [x] not a box\n```\n\\| <script>alert(1)</script> \u2028 é 漢字 🦷"

    def test_the_request_stays_within_its_quotation(self) -> None:
        text = worksheet(request=self.NASTY)
        quoted = text.split("## What is given\n\n")[1].split("\n\n## ")[0]
        assert all(line.startswith(">") for line in quoted.splitlines())
        assert "> # not a heading" in quoted
        assert "é 漢字 🦷" in quoted

    def test_values_keep_the_shape_of_every_table(self) -> None:
        brand = {
            key: [self.NASTY, "\\"] if isinstance(value, list) else self.NASTY + "\\" for key, value in BRAND.items()
        }
        project = {**PROJECT, "name": self.NASTY, "objective": self.NASTY, "channels": [self.NASTY]}
        headings = ("What is given", "Channels", "Audience", "Proof", "Vocabulary", "Objective")
        text = worksheet(*(Section(heading) for heading in headings[1:]), brand=brand, project=project)
        for heading in headings:
            head, *body = rows(text, heading)
            assert body
            assert {len(row) for row in body} == {len(head)}
        outside_quotes = [line for line in text.splitlines() if not line.startswith(">")]
        assert [line for line in outside_quotes if line.startswith(("# ", "- [x]", "```"))] == ["# The plan"]

    def test_a_backslash_does_not_undo_the_escaping_of_a_pipe(self) -> None:
        assert r"| Brand: name | a\\\|b |" in worksheet(brand={"name": "a\\|b"})

    @pytest.mark.parametrize("request_text", ["", " \n\t "])
    def test_an_empty_request_breaks_nothing(self, request_text: str) -> None:
        assert "> (nothing)" in worksheet(request=request_text)


def test_every_stage_of_every_bundled_workflow_gets_a_worksheet_with_all_its_headings() -> None:
    for workflow in load_catalog().workflows.values():
        for stage in workflow.stages:
            text = worksheet(sections=stage.sections, brand=BRAND, project=PROJECT)
            for section in stage.sections:
                assert f"\n## {section.heading}\n" in text
