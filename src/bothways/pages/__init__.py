"""Self-contained HTML pages: elements, figures as plain data, charts as inline SVG, and the shell around them."""
