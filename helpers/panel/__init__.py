"""Panels to break the cluster by hand, a module a panel: ipywidgets for the mouse, attributes for code."""
