"""Bulk campaigns: any number of recipients, none of them twice, and an account of each afterwards.

`AsyncMMSClient.campaign` and `AsyncMMSClient.send_bulk` begin them, and `resume` goes on with one from its journal.
`read_status`, `pause`, `unpause` and `stop` reach one that another process sends.
"""

from mmsclient._store.recording import ReportRecorder
from mmsclient.bulk.campaign import Campaign, Sending
from mmsclient.bulk.errors import (
    BalanceTooLowError,
    BudgetReachedError,
    CampaignStoppedError,
    DeliveryTestError,
    DeliveryTestFlaw,
    JournalBusyError,
    JournalError,
    JournalMismatchError,
    JournalUnavailableError,
    OptOutsIncompleteError,
    StopRequestedError,
    SuppressionListError,
    SuppressionListUnavailableError,
)
from mmsclient.bulk.fallback_options import SMSFallback
from mmsclient.bulk.html import html_report
from mmsclient.bulk.models import Batch, Exclusion, Progress, Recipient, RecipientState, UnknownRecipients
from mmsclient.bulk.options import CampaignOptions
from mmsclient.bulk.own_pictures import CampaignImage, PictureColumn, PictureFunction
from mmsclient.bulk.plan import Plan, Sample
from mmsclient.bulk.preflight import Preflight
from mmsclient.bulk.recipients import Recipients, Row
from mmsclient.bulk.recipients_csv import CSVList, read_csv
from mmsclient.bulk.reconciliation import Reconciliation, reconcile
from mmsclient.bulk.remote import Activity, CampaignStatus, FailedCall, pause, read_status, stop, unpause
from mmsclient.bulk.report import Report, read_report
from mmsclient.bulk.resuming import resume
from mmsclient.bulk.suppression import SuppressionList
from mmsclient.bulk.suppression_models import Suppression, SuppressionReport, SuppressionUpdate, UnreadableNumber
from mmsclient.bulk.template import Template
from mmsclient.bulk.window import Window

__all__ = [
    "Activity",
    "BalanceTooLowError",
    "Batch",
    "BudgetReachedError",
    "CSVList",
    "Campaign",
    "CampaignImage",
    "CampaignOptions",
    "CampaignStatus",
    "CampaignStoppedError",
    "DeliveryTestError",
    "DeliveryTestFlaw",
    "Exclusion",
    "FailedCall",
    "JournalBusyError",
    "JournalError",
    "JournalMismatchError",
    "JournalUnavailableError",
    "OptOutsIncompleteError",
    "PictureColumn",
    "PictureFunction",
    "Plan",
    "Preflight",
    "Progress",
    "Recipient",
    "RecipientState",
    "Recipients",
    "Reconciliation",
    "Report",
    "ReportRecorder",
    "Row",
    "SMSFallback",
    "Sample",
    "Sending",
    "StopRequestedError",
    "Suppression",
    "SuppressionList",
    "SuppressionListError",
    "SuppressionListUnavailableError",
    "SuppressionReport",
    "SuppressionUpdate",
    "Template",
    "UnknownRecipients",
    "UnreadableNumber",
    "Window",
    "html_report",
    "pause",
    "read_csv",
    "read_report",
    "read_status",
    "reconcile",
    "resume",
    "stop",
    "unpause",
]
