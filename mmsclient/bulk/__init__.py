"""Bulk campaigns: any number of recipients, none of them twice, and an account of each afterwards.

`AsyncMMSClient.campaign` and `AsyncMMSClient.send_bulk` begin them.
"""

from mmsclient.bulk.campaign import Campaign, CampaignOptions, Sending
from mmsclient.bulk.csv_list import CSVList, read_csv
from mmsclient.bulk.errors import CampaignStoppedError, JournalBusyError, JournalError, JournalMismatchError
from mmsclient.bulk.models import Batch, Exclusion, Progress, Recipient, RecipientState
from mmsclient.bulk.plan import Recipients, Row
from mmsclient.bulk.report import Report, read_report

__all__ = [
    "Batch",
    "CSVList",
    "Campaign",
    "CampaignOptions",
    "CampaignStoppedError",
    "Exclusion",
    "JournalBusyError",
    "JournalError",
    "JournalMismatchError",
    "Progress",
    "Recipient",
    "RecipientState",
    "Recipients",
    "Report",
    "Row",
    "Sending",
    "read_csv",
    "read_report",
]
