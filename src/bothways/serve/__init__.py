"""Serve bundles over HTTP, without torch: request → texts → tokens → one running batch → predictions → reply."""
