"""Internal messages: the parts of composed answers that no other message gives, a file for each module.

Composed handlers in ``app`` and workflows of modules send them, on behalf of the sender of the whole message, whose
role decides about each part as well. They have no routes, and are not a contract with other programs.
"""
