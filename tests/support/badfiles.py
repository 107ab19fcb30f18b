"""Malformed and hostile model files, and a good tiny one. Small and harmless to store.

Each case is (name, expected verdict, why, builder); `write` puts one into a folder. Verdicts: accept, not-regular,
not-gguf, unsupported, malformed, truncated (all by the header reader); model: the container is sound, but no model
comes of it; template: the model may load, rendering its chat template must fail cleanly.
"""

import gzip
import hashlib
import os
import random
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
_PACK = {
    U8: "<B",
    I8: "<b",
    U16: "<H",
    I16: "<h",
    U32: "<I",
    I32: "<i",
    F32: "<f",
    BOOL: "<B",
    U64: "<Q",
    I64: "<q",
    F64: "<d",
}
GGML_F32, GGML_Q4_0, GGML_Q4_2_REMOVED = 0, 2, 4


# --------------------------------------------------------------- primitives
def s(text, declared=None):
    """A GGUF string; `declared` lies about its length."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8")
    return struct.pack("<Q", len(raw) if declared is None else declared) + raw


def scalar(kind, value):
    return s(value) if kind == STR else struct.pack(_PACK[kind], value)


def kv(key, kind, value):
    return s(key) + struct.pack("<i", kind) + scalar(kind, value)


def kv_arr(key, kind, values, declared=None):
    n = len(values) if declared is None else declared
    body = b"".join(scalar(kind, v) for v in values)
    return s(key) + struct.pack("<iiQ", ARR, kind, n) + body


def tinfo(name, dims, kind, offset, n_dims=None):
    head = s(name) + struct.pack("<I", len(dims) if n_dims is None else n_dims)
    return head + b"".join(struct.pack("<Q", d & (2**64 - 1)) for d in dims) + struct.pack("<iQ", kind, offset)


def header(n_tensors, n_kv, version=3, magic=b"GGUF"):
    return magic + struct.pack("<I", version) + struct.pack("<QQ", n_tensors & (2**64 - 1), n_kv & (2**64 - 1))


def pad(blob, align=32):
    return blob + b"\0" * (-len(blob) % align)


def tiny(kvs=(), tensors=(), data=b"", n_kv=None, n_tensors=None, align=32, version=3):
    """Smallest container: given key-values, tensor records and raw data."""
    blob = header(len(tensors) if n_tensors is None else n_tensors, len(kvs) if n_kv is None else n_kv, version)
    blob += b"".join(kvs) + b"".join(tensors)
    return pad(blob, align) + data if tensors else blob


ARCH = kv("general.architecture", STR, "llama")


def one_tensor(dims, kind=GGML_F32, offset=0, data=b"\0" * 128, **kw):
    return tiny([ARCH], [tinfo("t", dims, kind, offset, **kw)], data)


# ------------------------------------------------- a real, loadable tiny model
N_EMBD, N_HEAD, N_FF, N_CTX = 32, 2, 64, 256
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def vocab():
    toks = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    kinds = [2, 3, 3] + [6] * 256
    words = ["\u2581"] + [chr(c) for c in range(97, 123)] + ["\u2581the", "\u2581a"]
    toks += words
    kinds += [1] * len(words)
    scores = [0.0] * 259 + [-float(i + 1) for i in range(len(words))]
    return toks, scores, kinds


def model(drop=(), over=None, extra=(), drop_tensors=(), tensor_over=None, cut_data=0, trailing=b""):
    """Build the tiny llama model.  `over` maps key -> ready-made kv bytes."""
    toks, scores, kinds = vocab()
    n_vocab = len(toks)
    pairs = [
        ("general.architecture", ARCH),
        ("general.name", kv("general.name", STR, "tiny-control")),
        ("general.file_type", kv("general.file_type", U32, 0)),
        ("llama.context_length", kv("llama.context_length", U32, N_CTX)),
        ("llama.embedding_length", kv("llama.embedding_length", U32, N_EMBD)),
        ("llama.block_count", kv("llama.block_count", U32, 1)),
        ("llama.feed_forward_length", kv("llama.feed_forward_length", U32, N_FF)),
        ("llama.rope.dimension_count", kv("llama.rope.dimension_count", U32, N_EMBD // N_HEAD)),
        ("llama.attention.head_count", kv("llama.attention.head_count", U32, N_HEAD)),
        ("llama.attention.head_count_kv", kv("llama.attention.head_count_kv", U32, N_HEAD)),
        ("llama.attention.layer_norm_rms_epsilon", kv("llama.attention.layer_norm_rms_epsilon", F32, 1e-5)),
        ("tokenizer.ggml.model", kv("tokenizer.ggml.model", STR, "llama")),
        ("tokenizer.ggml.tokens", kv_arr("tokenizer.ggml.tokens", STR, toks)),
        ("tokenizer.ggml.scores", kv_arr("tokenizer.ggml.scores", F32, scores)),
        ("tokenizer.ggml.token_type", kv_arr("tokenizer.ggml.token_type", I32, kinds)),
        ("tokenizer.ggml.bos_token_id", kv("tokenizer.ggml.bos_token_id", U32, 1)),
        ("tokenizer.ggml.eos_token_id", kv("tokenizer.ggml.eos_token_id", U32, 2)),
        ("tokenizer.ggml.unknown_token_id", kv("tokenizer.ggml.unknown_token_id", U32, 0)),
        ("tokenizer.chat_template", kv("tokenizer.chat_template", STR, TEMPLATE)),
    ]
    over = over or {}
    kvs = [over.get(k, b) for k, b in pairs if k not in drop] + list(extra)
    shapes = [
        ("token_embd.weight", (N_EMBD, n_vocab)),
        ("output_norm.weight", (N_EMBD,)),
        ("output.weight", (N_EMBD, n_vocab)),
        ("blk.0.attn_norm.weight", (N_EMBD,)),
        ("blk.0.attn_q.weight", (N_EMBD, N_EMBD)),
        ("blk.0.attn_k.weight", (N_EMBD, N_EMBD)),
        ("blk.0.attn_v.weight", (N_EMBD, N_EMBD)),
        ("blk.0.attn_output.weight", (N_EMBD, N_EMBD)),
        ("blk.0.ffn_norm.weight", (N_EMBD,)),
        ("blk.0.ffn_gate.weight", (N_EMBD, N_FF)),
        ("blk.0.ffn_down.weight", (N_FF, N_EMBD)),
        ("blk.0.ffn_up.weight", (N_EMBD, N_FF)),
    ]
    rng = random.Random(7)
    recs, data = [], b""
    for name, dims in shapes:
        if name in drop_tensors:
            continue
        count = 1
        for d in dims:
            count *= d
        body = struct.pack(f"<{count}f", *[1.0 if "norm" in name else rng.uniform(-0.2, 0.2) for _ in range(count)])
        shape = (tensor_over or {}).get(name, dims)
        recs.append(tinfo(name, shape, GGML_F32, len(data)))
        data = pad(data + body)
    blob = tiny(kvs, recs, data)
    return (blob[:-cut_data] if cut_data else blob) + trailing


def with_kv(key, raw):
    return model(over={key: raw})


def with_template(text):
    return with_kv("tokenizer.chat_template", kv("tokenizer.chat_template", STR, text))


def int_key(key, value, kind=U32):
    return with_kv(key, kv(key, kind, value))


def nested_array(depth):
    return s("x") + struct.pack("<i", ARR) + struct.pack("<iQ", ARR, 1) * depth + struct.pack("<iQB", U8, 1, 0)


HTML = (
    b"<!DOCTYPE html>\n<html><head><title>503 Service Unavailable</title></head>"
    b"<body><h1>Sorry, we can't find the page you are looking for.</h1></body></html>\n"
)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4294967296\n"
SAFETENSORS_HEAD = b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'

CASES = []


def case(name, expect, why, build):
    CASES.append((name, expect, why, build))


# ------------------------------------------------------------------ control
case("control_good.gguf", "accept", "valid tiny llama model, loads and generates", model)
case(
    "control_trailing_bytes.gguf",
    "accept",
    "valid model with 4 KiB after the data",
    lambda: model(trailing=b"\xaa" * 4096),
)

# ----------------------------------------------------------- not a file / GGUF
case("file_zero_length.gguf", "not-gguf", "0 bytes (sha256 e3b0c442...)", lambda: b"")
case("file_directory.gguf", "not-regular", "a directory where a file is expected", "dir")
case("file_fifo.gguf", "not-regular", "a FIFO: a blind open() blocks for ever", "fifo")
case("file_symlink_loop.gguf", "not-regular", "symlink to itself", "symloop")
case("file_symlink_dev_zero.gguf", "not-regular", "symlink to an endless device", "devzero")
case("file_html_error_page.gguf", "not-gguf", "proxy error page saved as a model", lambda: HTML)
case(
    "file_json_error.gguf", "not-gguf", "JSON error body saved as a model", lambda: b'{"error":"Repository not found"}'
)
case("file_lfs_pointer.gguf", "not-gguf", "git-lfs pointer instead of content", lambda: LFS)
case("file_gzip_of_model.gguf", "not-gguf", "a gzip of a good model", lambda: gzip.compress(model(), mtime=0))
case(
    "file_safetensors.gguf",
    "not-gguf",
    "a safetensors file renamed",
    lambda: struct.pack("<Q", len(SAFETENSORS_HEAD)) + SAFETENSORS_HEAD + b"\0" * 8,
)
case("file_old_ggjt.gguf", "not-gguf", "pre-GGUF magic", lambda: b"tjgg" + struct.pack("<I", 3) + b"\0" * 64)
case("file_pickle.gguf", "not-gguf", "a pickle", lambda: b"\x80\x04N.")

# -------------------------------------------------------------------- header
case("hdr_bad_magic.gguf", "not-gguf", "magic GGUG", lambda: b"GGUG" + model()[4:])
case("hdr_magic_only.gguf", "truncated", "4 bytes: just the magic (CVE-2024-39720)", lambda: b"GGUF")
case("hdr_cut_in_version.gguf", "truncated", "6 bytes", lambda: b"GGUF\x03\x00")
case("hdr_cut_in_counts.gguf", "truncated", "ends inside the tensor count", lambda: model()[:13])
case("hdr_version_0.gguf", "unsupported", "version 0", lambda: tiny([ARCH], version=0))
case("hdr_version_1.gguf", "unsupported", "version 1", lambda: tiny([ARCH], version=1))
case("hdr_version_99.gguf", "unsupported", "version 99", lambda: tiny([ARCH], version=99))
case("hdr_big_endian.gguf", "unsupported", "big-endian version field", lambda: b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
case("hdr_n_tensors_2e63.gguf", "malformed", "n_tensors 2^63-1", lambda: tiny([ARCH], n_tensors=2**63 - 1))
case("hdr_n_tensors_negative.gguf", "malformed", "n_tensors -1", lambda: tiny([ARCH], n_tensors=-1))
case(
    "hdr_n_tensors_mul_wrap.gguf",
    "malformed",
    "n_tensors * 368 wraps 2^64 (llama.cpp#15711)",
    lambda: tiny([ARCH], n_tensors=2**64 // 368 + 1),
)
case("hdr_n_kv_2e62.gguf", "malformed", "n_kv 2^62", lambda: tiny([ARCH], n_kv=2**62))
case("hdr_n_kv_negative.gguf", "malformed", "n_kv -1", lambda: tiny([ARCH], n_kv=-1))
case("hdr_n_kv_more_than_present.gguf", "truncated", "n_kv 1000000, one present", lambda: tiny([ARCH], n_kv=1000000))

# --------------------------------------------------------------- key-values
case("kv_key_len_2e63.gguf", "malformed", "key length 2^63", lambda: header(0, 1) + s("k", 2**63))
case("kv_key_len_max.gguf", "malformed", "key length 2^64-1 (+1 wraps to 0)", lambda: header(0, 1) + s("k", 2**64 - 1))
case("kv_key_past_eof.gguf", "truncated", "key length 1000, 3 bytes left", lambda: header(0, 1) + s("abc", 1000))
case("kv_key_empty.gguf", "malformed", "empty key", lambda: tiny([ARCH, kv("", U32, 1)]))
case("kv_key_bad_utf8.gguf", "malformed", "key is not UTF-8", lambda: tiny([ARCH, kv(b"\xff\xfe\x80", U32, 1)]))
case("kv_key_70k.gguf", "malformed", "key longer than 65535 bytes", lambda: tiny([ARCH, kv("k" * 70000, U32, 1)]))
case(
    "kv_str_declares_1g.gguf",
    "truncated",
    "string value claims 1 GiB, has 10 bytes",
    lambda: header(0, 1) + s("general.name") + struct.pack("<i", STR) + s("0123456789", 2**30),
)
case(
    "kv_type_13.gguf",
    "malformed",
    "value type 13 (one past the last)",
    lambda: tiny([ARCH, s("k") + struct.pack("<i", 13) + b"\0" * 8]),
)
case(
    "kv_type_negative.gguf",
    "malformed",
    "value type -1",
    lambda: tiny([ARCH, s("k") + struct.pack("<i", -1) + b"\0" * 8]),
)
case("kv_array_nested_1.gguf", "malformed", "array of arrays", lambda: tiny([ARCH, nested_array(1)]))
case(
    "kv_array_nested_10000.gguf",
    "malformed",
    "10000 levels of arrays (recursion)",
    lambda: tiny([ARCH, nested_array(10000)]),
)
case(
    "kv_array_len_mul_wrap.gguf",
    "malformed",
    "2^61+1 u64 elements: bytes wrap to 8",
    lambda: tiny([ARCH, kv_arr("a", U64, [0], declared=2**61 + 1)]),
)
case(
    "kv_array_len_2e63.gguf",
    "malformed",
    "array length 2^63 (hung gguf-py, llama.cpp#27188)",
    lambda: header(0, 1) + s("a") + struct.pack("<iiQ", ARR, U8, 2**63),
)
case(
    "kv_array_str_1e9.gguf",
    "truncated",
    "10^9 strings declared, one present",
    lambda: tiny([ARCH, kv_arr("a", STR, ["x"], declared=10**9)]),
)
case(
    "kv_duplicate_key.gguf",
    "malformed",
    "same key twice",
    lambda: tiny([ARCH, kv("general.name", STR, "a"), kv("general.name", STR, "b")]),
)
case(
    "kv_align_0.gguf",
    "malformed",
    "general.alignment 0 (CVE-2025-0317 class)",
    lambda: model(extra=[kv("general.alignment", U32, 0)]),
)
case("kv_align_3.gguf", "malformed", "general.alignment 3", lambda: model(extra=[kv("general.alignment", U32, 3)]))
case(
    "kv_align_2e31.gguf",
    "malformed",
    "general.alignment 2^31",
    lambda: model(extra=[kv("general.alignment", U32, 2**31)]),
)
case(
    "kv_align_is_string.gguf",
    "malformed",
    "general.alignment is a string",
    lambda: model(extra=[kv("general.alignment", STR, "32")]),
)
case(
    "kv_name_terminal_escapes.gguf",
    "accept",
    "general.name carries ANSI, newline, NUL: must be escaped in logs, CLI and status",
    lambda: with_kv("general.name", kv("general.name", STR, "x\x1b[2J\x1b]0;owned\x07\r\n<b>\x00y")),
)

# -------------------------------------------------------------- tensor table
case("ten_n_dims_5.gguf", "malformed", "5 dimensions", lambda: one_tensor((2, 2, 2, 2, 2)))
case("ten_n_dims_2e32.gguf", "malformed", "n_dims 2^32-1", lambda: one_tensor((2,), n_dims=2**32 - 1))
case("ten_dim_zero.gguf", "model", "a zero dimension (division by zero, llama.cpp#18586)", lambda: one_tensor((32, 0)))
case("ten_dim_negative.gguf", "malformed", "dimension -1", lambda: one_tensor((-1,)))
case("ten_dims_product_overflow.gguf", "malformed", "2^40 x 2^40", lambda: one_tensor((2**40, 2**40)))
case(
    "ten_dims_bytes_wrap.gguf",
    "malformed",
    "2^42+1 rows: stride arithmetic wraps (llama.cpp#18674)",
    lambda: model(tensor_over={"token_embd.weight": (N_EMBD, 2**59 + 1)}),
)
case("ten_type_255.gguf", "malformed", "tensor type 255", lambda: one_tensor((32,), kind=255))
case("ten_type_negative.gguf", "malformed", "tensor type -1 (llama.cpp#19856)", lambda: one_tensor((32,), kind=-1))
case(
    "ten_type_removed.gguf",
    "malformed",
    "removed type 4: block size 0",
    lambda: one_tensor((32,), kind=GGML_Q4_2_REMOVED),
)
case("ten_row_not_block_multiple.gguf", "malformed", "Q4_0 row of 33", lambda: one_tensor((33,), kind=GGML_Q4_0))
case("ten_offset_past_eof.gguf", "malformed", "offset 2^40", lambda: one_tensor((32,), offset=2**40))
case("ten_offset_misaligned.gguf", "malformed", "offset 7", lambda: one_tensor((32,), offset=7))
case("ten_offset_wraps.gguf", "malformed", "offset 2^64-32", lambda: one_tensor((32,), offset=2**64 - 32))
case(
    "ten_offsets_overlap.gguf",
    "malformed",
    "two tensors at offset 0",
    lambda: tiny([ARCH], [tinfo("a", (32,), 0, 0), tinfo("b", (32,), 0, 0)], b"\0" * 256),
)
case(
    "ten_duplicate_name.gguf",
    "malformed",
    "two tensors named t",
    lambda: tiny([ARCH], [tinfo("t", (32,), 0, 0), tinfo("t", (32,), 0, 128)], b"\0" * 256),
)
case(
    "ten_name_65.gguf",
    "malformed",
    "name longer than 63 bytes",
    lambda: tiny([ARCH], [tinfo("n" * 65, (32,), 0, 0)], b"\0" * 128),
)
case("ten_name_len_2e63.gguf", "malformed", "name length 2^63", lambda: header(1, 1) + ARCH + s("t", 2**63))
case(
    "ten_total_overflow.gguf",
    "malformed",
    "padded sizes sum past 2^64",
    lambda: tiny([ARCH], [tinfo("a", (2**61 - 8,), 0, 0), tinfo("b", (2**61 - 8,), 0, 2**63 - 32)], b"\0" * 64),
)
case(
    "ten_data_truncated.gguf",
    "truncated",
    "valid header, last 4096 data bytes missing (CVE-2026-7482 class)",
    lambda: model(cut_data=4096),
)
case(
    "ten_data_absent.gguf", "truncated", "header complete, no tensor data", lambda: model(cut_data=len(model()) - 9000)
)

# ------------------------------------------------------------- model metadata
case("mod_arch_missing.gguf", "model", "no general.architecture", lambda: model(drop=["general.architecture"]))
case(
    "mod_arch_unknown.gguf",
    "model",
    "architecture nobody has",
    lambda: with_kv("general.architecture", kv("general.architecture", STR, "offgrid-unknown")),
)
case(
    "mod_arch_traversal.gguf",
    "model",
    "architecture ../../etc/passwd",
    lambda: with_kv("general.architecture", kv("general.architecture", STR, "../../etc/passwd")),
)
case(
    "mod_arch_is_int.gguf",
    "malformed",
    "architecture is a u32",
    lambda: with_kv("general.architecture", kv("general.architecture", U32, 7)),
)
case(
    "mod_context_length_u32max.gguf",
    "model",
    "context_length 2^32-1, read back as -1: loads, then every request fails; refuse or clamp",
    lambda: int_key("llama.context_length", 2**32 - 1),
)
case(
    "mod_context_length_u64.gguf",
    "model",
    "context_length 2^32 as u64",
    lambda: int_key("llama.context_length", 2**32, U64),
)
case(
    "mod_block_count_0.gguf",
    "model",
    "block_count 0 (CVE-2024-8063, ollama#7802)",
    lambda: int_key("llama.block_count", 0),
)
case("mod_block_count_huge.gguf", "model", "block_count 2^31", lambda: int_key("llama.block_count", 2**31))
case(
    "mod_head_count_0.gguf",
    "model",
    "head_count 0 (division by zero)",
    lambda: int_key("llama.attention.head_count", 0),
)
case("mod_embedding_length_0.gguf", "model", "embedding_length 0", lambda: int_key("llama.embedding_length", 0))
case(
    "mod_embedding_mismatch.gguf",
    "model",
    "embedding_length disagrees with tensors",
    lambda: int_key("llama.embedding_length", 4096),
)
case(
    "mod_missing_tensor.gguf",
    "model",
    "blk.0.attn_q.weight absent",
    lambda: model(drop_tensors=["blk.0.attn_q.weight"]),
)
case(
    "mod_split_1_of_3.gguf",
    "model",
    "says it is part 1 of 3; others absent",
    lambda: model(extra=[kv("split.no", U16, 0), kv("split.count", U16, 3), kv("split.tensors.count", I32, 36)]),
)

# ------------------------------------------------------------------ tokenizer
case(
    "tok_scores_short.gguf",
    "model",
    "scores shorter than tokens",
    lambda: with_kv("tokenizer.ggml.scores", kv_arr("tokenizer.ggml.scores", F32, [0.0] * 5)),
)
case(
    "tok_types_are_u8.gguf",
    "model",
    "token_type array of u8, right count (OOB read, llama.cpp#26690)",
    lambda: with_kv("tokenizer.ggml.token_type", kv_arr("tokenizer.ggml.token_type", U8, vocab()[2])),
)
case(
    "tok_bos_out_of_range.gguf",
    "accept",
    "bos_token_id 2^31: ignored with a warning, never indexed",
    lambda: int_key("tokenizer.ggml.bos_token_id", 2**31),
)
case("tok_no_tokens.gguf", "model", "token list absent", lambda: model(drop=["tokenizer.ggml.tokens"]))
case(
    "tok_model_unknown.gguf",
    "model",
    "tokenizer.ggml.model nonesuch",
    lambda: with_kv("tokenizer.ggml.model", kv("tokenizer.ggml.model", STR, "nonesuch")),
)

# ------------------------------------------------------------- chat templates
case(
    "tpl_ssti_globals.gguf",
    "template",
    "tries os.getpid() through cycler globals (CVE-2024-34359)",
    lambda: with_template("SSTI-EXECUTED-{{ cycler.__init__.__globals__.os.getpid() }}"),
)
case(
    "tpl_ssti_format.gguf",
    "template",
    "str.format reached through a stored reference (CVE-2024-56326 class)",
    lambda: with_template("{% set f = '{0.__class__.__mro__}'.format %}SSTI-FORMAT-{{ [messages]|map(f)|list }}"),
)
case(
    "tpl_nested_loops.gguf",
    "template",
    "10^10 iterations, each range below the sandbox cap",
    lambda: with_template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x"),
)
case("tpl_string_bomb.gguf", "template", "8 GiB string", lambda: with_template("{{ 'A' * 8589934592 }}"))
case("tpl_power_bomb.gguf", "template", "9 ** (9 ** 9)", lambda: with_template("{{ 9 ** (9 ** 9) }}"))
case(
    "tpl_macro_recursion.gguf",
    "template",
    "macro that calls itself",
    lambda: with_template("{% macro r(n) %}{{ r(n + 1) }}{% endmacro %}{{ r(0) }}"),
)
case("tpl_syntax_error.gguf", "template", "does not parse", lambda: with_template("{% for m in messages %}{{ m "))
case("tpl_include_file.gguf", "template", "includes a file", lambda: with_template("{% include '/etc/hostname' %}"))
case(
    "tpl_wrong_type.gguf",
    "template",
    "chat_template is a u32",
    lambda: with_kv("tokenizer.chat_template", kv("tokenizer.chat_template", U32, 1)),
)


# ---------------------------------------------------------------------- main
def write(folder, name, build):
    path = os.path.join(folder, name)
    if os.path.lexists(path):
        os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    if build == "dir":
        os.mkdir(path)
    elif build == "fifo":
        os.mkfifo(path)
    elif build == "symloop":
        os.symlink(name, path)
    elif build == "devzero":
        os.symlink("/dev/zero", path)
    else:
        blob = build()
        with open(path, "wb") as f:
            f.write(blob)
        return {"size": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
    return {"size": None, "sha256": None}
