"""The dossier: report.html with its 3D scene, report.pdf, and the pictures in both."""
