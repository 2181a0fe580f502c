"""Results as one HTML page that needs nothing but itself: `connbench.report.html.page.html_page`."""
