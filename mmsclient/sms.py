"""SMS: how a text is counted, and what `send_sms_many` and `send_sms_template` take."""

from mmsclient._api.sms_text import Alphabet, Parts, parts
from mmsclient._api.sms_types import SMS, TemplateRecipient

__all__ = ["SMS", "Alphabet", "Parts", "TemplateRecipient", "parts"]
