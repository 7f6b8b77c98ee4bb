"""The API keeps its word: requests made from its own description, well-formed and not."""

import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.dashboard.asking import BEARER, TOKEN, train
from tests.dashboard.running import dashboard

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import CHECKS, load_all_checks

pytestmark = pytest.mark.slow

#: Of each route; there are some thirty.
EXAMPLES = 20
#: What is asked of every answer. That whatever fits the description is accepted is not among them:
#: a filter, a policy or a name has rules that a description of types cannot tell.
ASKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)


def test_every_answer_is_as_it_is_described(tmp_path):
    train(tmp_path / "store", "study/trial-7", 3)
    train(tmp_path / "store", "plain", 2)
    load_all_checks()
    checks = CHECKS.get_by_names(list(ASKED))
    with dashboard(tmp_path / "store", "--token-value", TOKEN) as server:
        described = server.ask("GET", "/api/v1/openapi.json")[1]
        operations = [
            found.ok()
            for found in schemathesis.openapi.from_dict(described).get_all_operations()
            # This one does not end.
            if not found.ok().path.endswith("/events")
        ]
        assert len(operations) >= 20
        for operation in operations:
            cases = [operation.as_strategy(generation_mode=m) for m in schemathesis.GenerationMode]

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            @given(case=st.one_of(cases))
            def keeps_its_word(case):
                answer = case.call(
                    base_url=f"http://127.0.0.1:{server.port}/api", headers=BEARER, timeout=60
                )
                case.validate_response(answer, checks=checks)

            keeps_its_word()
        assert server.ask("GET", "/api/v1/health")[1]["standing"] == "ok"
        code, errors = server.end()
        # Nothing that was asked made the server fail where nobody sees it.
        assert (code, errors) == (0, "")
