"""Packages of models: what a folder asks for beside Ponte's own, and the one lock of all."""
