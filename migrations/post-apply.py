"""Plain ``yoyo apply`` runs this after it has applied something: what it applied goes into the archive."""

from pathlib import Path

from yoyo import step

from vm_webapp.db.bundle import read_bundle
from vm_webapp.db.migrate import archive_applied

step(lambda connection: archive_applied(connection, read_bundle(Path(__file__).parent)))
