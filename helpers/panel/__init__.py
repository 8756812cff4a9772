"""Panels to play with by mouse in JupyterLab, and by code in a test; a module a panel."""
