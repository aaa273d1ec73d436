"""ctrecorder: records connections that netfilter tracks, keeps the records small, and answers from
them.
"""

__version__ = "1.1.0"
