"""Code that all pages share: server, site, login, URLs, widgets and figures."""
