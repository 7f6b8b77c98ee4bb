"""A store on show: a REST API and pages that follow what happens in it.

Nothing here is imported by the rest of Holdfast; it needs ``pip install 'holdfast[dashboard]'``.
"""
