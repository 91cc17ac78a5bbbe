"""Five services and a gateway as processes, for tests from outside.

``zygote.py`` forks them from one process that has imported the program, since an import takes most of a start.
``file_topic.py`` is a topic in a file, which links the services without brokers.
"""
