"""The client side: how a message is sent to a company's server. It loads no database."""
