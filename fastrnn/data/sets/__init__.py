"""The data sets, a module a subject: rows of the table, loaders, made-up samples.

A loader turns the contents of a set's files into the form that :func:`fastrnn.data.load` returns;
a sample returns a few made-up examples of the same form.
"""
