"""What people and CI read. Importing this imports no plotting library: each part is imported where it is used."""

#: The name of a bundle's report inside the bundle.
REPORT = "report.html"
