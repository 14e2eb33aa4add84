"""The actors of changes that tests make themselves."""

from vm_webapp.access.actor import Actor

OPERATOR = Actor("cli:tests")
