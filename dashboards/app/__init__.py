"""What all pages share: the server, the site, log-in, addresses, widgets and figures."""
