"""Internal messages: the parts of composed answers that no other message gives, a file for each module.

Only composed handlers in ``app`` send them, on behalf of the sender of the whole message, whose role decides about each
part as well. They have no routes, and they are no contract with other programs.
"""
