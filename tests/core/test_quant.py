"""Names of quants as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.quant import find_quant

KNOWN = (
    "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_0", "Q5_1", "Q5_K_S", "Q5_K_M", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M",
    "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q2_K", "Q2_K_S", "IQ4_NL", "IQ4_XS", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M",
    "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "TQ1_0", "TQ2_0", "MXFP4", "MXFP4_MOE", "NVFP4", "Q1_0", "Q2_0",
    "Q4_K_L", "Q6_K_L", "Q8_0_L", "Q3_K_XL", "Q4_K_P", "Q8_K_P",
)  # fmt: skip


@pytest.mark.parametrize(
    ("stem", "name", "token"),
    [
        ("Phi-3-mini-4k-instruct-fp16", "F16", "FP16"),
        ("Phi-3-mini-4k-instruct-q4", "Q4", "Q4"),
        ("phi-4-Q4_K", "Q4_K_M", "Q4_K"),
        ("devstralQ4_K_M", "Q4_K_M", "Q4_K_M"),
        ("gemma-2-9b-it-Q4_K_M-fp16", "Q4_K_M", "Q4_K_M"),
        ("x-Q6_K-f32", "Q6_K", "Q6_K"),
        ("x-Q3_K_L-Q8", "Q3_K_L", "Q3_K_L"),
        ("X.i1-IQ2_XXS", "IQ2_XXS", "IQ2_XXS"),
        ("gemma-4-26B_q4_0-it", "Q4_0", "Q4_0"),
        ("Azure_Dusk-v0.2-Q4_K_M-imat", "Q4_K_M", "Q4_K_M"),
        ("Qwen3.6-27B-NVFP4-MTP-GGUF", "NVFP4", "NVFP4"),
        ("gpt-oss-20b-mxfp4", "MXFP4", "MXFP4"),
        ("Qwen3.6-35B-A3B-UD-IQ4_NL_XL", "UD-IQ4_NL_XL", "UD-IQ4_NL_XL"),
        ("moondream2-text-model-f16_ct-vicuna", "F16", "F16"),
        ("ggml-model-i2_s", "I2_S", "I2_S"),
        ("A model with blanks Q5_K_S", "Q5_K_S", "Q5_K_S"),
    ],
)
def test_real_names(stem: str, name: str, token: str) -> None:
    found = find_quant(stem)
    assert found is not None
    assert (found.name, found.token) == (name, token)


@pytest.mark.parametrize(
    "stem", ["Q3.5-9B", "model-Q3.5-9B", "hermes-4_3_36b", "Agents-A1-APEX-I-Mini", "AProjQ8-SExpQ8", "x-4.256bpw", ""]
)
def test_no_name(stem: str) -> None:
    assert find_quant(stem) is None


@pytest.mark.parametrize("token", ["Q4_0_4_4", "Q4_0_8_8", "IQ2_KL", "IQ4_KS", "I2_S", "TQ3_4S", "PQ2_0", "Q4_K_R4"])
def test_what_only_forks_read_is_known_as_such(token: str) -> None:
    found = find_quant(f"model-{token}")
    assert found is not None
    assert (found.name, found.loadable) == (token, False)


models = st.from_regex(r"[A-Z][A-Za-z]{1,8}(-v?[0-9](\.[0-9])?)?-[1-9][0-9]?[BbMm](-[a-z]{2,8}){0,2}", fullmatch=True)


@given(
    models,
    st.sampled_from(KNOWN),
    st.sampled_from(["-", ".", "_", ".i1-"]),
    st.sampled_from(["", "UD-"]),
    st.sampled_from([str.upper, str.lower]),
    st.sampled_from(["", "-imat", "-GGUF", "-mtp", "-imatrix"]),
)
def test_every_name_is_found_however_it_is_written(model, name, separator, dynamic, case, behind) -> None:  # type: ignore[no-untyped-def]
    found = find_quant(model + separator + case(dynamic + name) + behind)
    assert found is not None
    assert (found.name, found.token, found.loadable) == (dynamic + name, dynamic + name, True)
    assert found.bits is not None
    assert 1 <= found.bits <= 32


@given(st.text(max_size=60))
def test_any_text_is_read(text: str) -> None:
    found = find_quant(text)
    assert found is None or found.token.removeprefix("UD-") in text.upper()
