"""Poses over HTTP: `app.create_app` answers requests, `running.run` keeps it up. Needs the extra ``serve``."""
