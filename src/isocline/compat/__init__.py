"""Fronts through which programs written for other libraries run on isocline."""
