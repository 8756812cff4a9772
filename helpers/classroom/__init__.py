"""A shared cluster for a class: an account a student, a certificate, a handout, and who is where.

`python -m helpers.classroom start | end`, which `make class` and `make class-end` call, keeps
everything in the folder `classroom/`, which git ignores. `report` is the only thing a student's kernel
does of it, and only where CLASS_URL is set.
"""
