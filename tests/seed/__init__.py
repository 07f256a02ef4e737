"""The classic interface (Celery 0.2.14), module by module, and for each piece of it a test that runs it.

`names` is the list: begin there. A test says by `rows_of` which rows it stands for; `test_table` fails while a row has
no test, and while a classic name cannot be called as in 2009.
"""
