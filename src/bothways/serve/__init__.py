"""Serve bundles over HTTP. No torch; the flow: request → texts → tokens → one running batch → predictions → reply."""
