"""Reports for users and CI. Importing this imports no plotting library: each module is imported where it is used."""

#: The name of a bundle's report inside the bundle.
REPORT = "report.html"
