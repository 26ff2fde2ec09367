"""The data sets, one module for each subject: their descriptions, loaders and made-up samples.

A loader turns the contents of a set's files into the form that :func:`fastrnn.data.load` returns;
a sample returns a few made-up examples of the same form.
"""
