"""Results as one HTML page without any other file: `connbench.report.html.page.html_page`."""
