"""The commands: one thin module each (parse, validate, one call, return the code), and `common`,
what they share.
"""
