"""SMS: how a text is counted, and what the calls of SMS take and return."""

from mmsclient._api.sms_text import Alphabet, Parts, parts

__all__ = ["Alphabet", "Parts", "parts"]
