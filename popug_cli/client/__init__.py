"""The client: send messages to a company's server, without loading the database code."""
