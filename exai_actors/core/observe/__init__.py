"""Views of the running broker for people: tables, their changes, and alarms."""
