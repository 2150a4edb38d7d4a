"""The common part of all calls to one HTTP service."""

from __future__ import annotations

import msgspec

from exai_actors.edges.http.settings import HttpSettings
from exai_actors.wire.openai.redaction import Redactor
from exai_actors.wire.openai.request_form import USUAL_FORM, RequestForm

MAX_LEARNED_FORMS = 1000
"""The number of models whose form is remembered; each costs one refused request when it is not."""


class LearnedForms:
    """The forms of requests that the service wants, by model, where they are not the usual one.

    A form is on trial until a request in it is answered. If one is refused instead, the usual form
    returns: the refusal was about something else.
    """

    def __init__(self) -> None:
        self._forms: dict[str, RequestForm] = {}
        self._on_trial: set[str] = set()

    def of(self, model: str) -> RequestForm:
        return self._forms.get(model, USUAL_FORM)

    def learn(self, model: str, form: RequestForm) -> None:
        if len(self._forms) >= MAX_LEARNED_FORMS and model not in self._forms:
            return
        self._forms[model] = form
        self._on_trial.add(model)

    def answered(self, model: str) -> None:
        self._on_trial.discard(model)

    def refused(self, model: str) -> None:
        if model in self._on_trial:
            self._on_trial.discard(model)
            self._forms.pop(model, None)


class HttpService(msgspec.Struct):
    """How a completion is requested from the service, and how long that may take."""

    name: str
    redactor: Redactor
    base_url: str
    settings: HttpSettings
    forms: LearnedForms = msgspec.field(default_factory=LearnedForms)
