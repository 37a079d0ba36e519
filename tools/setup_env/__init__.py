"""Set-up of a virtual environment: ``make setup`` runs it."""
