from posecov.learn.benchmarks.serve import measure


def test_figures_are_there_and_every_answer_is_right(model_path):
    figures = measure(model_path, clients=2, rounds=1, requests=10, long=64)
    assert figures["serve_wrong"] == 0
    assert figures["serve_mixed_requests"] == 64
    assert figures["serve_over_session"] == figures["serve_requests_per_second"] / figures["serve_session_crops_per_second"]
    assert 0 < figures["serve_p50_ms"] <= figures["serve_p99_ms"]
    assert 1 <= figures["serve_crops_per_batch"] <= 16
    assert figures["serve_memory_mb"] > 10
