"""The cases that make_cases.py makes besides the archive's: every family in other sizes, and with each of its switches
the other way. Data: an axis names keys of a config and their values, and applies to every family whose config has them;
SPECIAL holds what only one family has. A case is named FAMILY@AXIS.

A base is the archive's case that is named like its model_type. Overrides are merged into its config, dictionaries within
dictionaries; DROP removes a key, so that transformers works its default out again.
"""

DROP = object()
LONG = 300  # tokens of the long prompt of windows; 96 otherwise
ROOM = {"max_position_embeddings": 512, "n_positions": 512, "n_ctx": 512, "max_seq_len": 512, "context_length": 512,
        "model_max_length": 512}

# What a key is called, by family.
HIDDEN = ("hidden_size", "n_embd", "d_model")
HEADS = ("num_attention_heads", "n_head", "n_heads", "attention_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
FFN = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "moe_top_k")
GROUPS = ("n_group", "num_expert_group")
SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
EXPERT_FFN = ("moe_intermediate_size", "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
              "shared_intermediate_size")
WINDOWS = ("sliding_window", "attention_window_size", "window_size", "attention_chunk_size", "local_attention")
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation", "mlp_hidden_act", "afn")
WIDE_AS_HIDDEN = ("attention_hidden_size", "lru_width", "word_embed_proj_dim")  # if they are in the base
# Worked out by transformers from other keys.
DERIVED = ("qk_head_dim", "kv_channels", "attention_head_dim", "mamba_headdim", "num_query_groups", "hybrid_layer_ids",
           "full_attn_idxs", "moe_layers")

# Switches that change no logits, or that nothing but training reads.
NO_SWITCHES = {"use_cache", "output_router_logits", "is_decoder", "add_cross_attention", "summary_proj_to_labels",
               "summary_use_proj", "classifier_bias", "slow_but_exact", "use_mambapy", "use_associative_scan",
               "use_mamba_kernels", "use_mem_eff_path", "rescale_prenorm_residual", "residual_in_fp32",
               "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "moe_shared_expert_overlap",
               "enable_moe_fp32_combine", "tie_word_embeddings", "reorder_and_upcast_attn", "use_long_context",
               "multi_query", "alibi", "new_decoder_architecture", "is_moe", "block_auto_adjust_ff_dim"}

# Numbers that most configs leave at a value that shows nothing.
NUMBERS = {
    "rms_norm_eps": 0.03, "layer_norm_eps": 0.03, "layer_norm_epsilon": 0.03, "norm_eps": 0.03, "norm_epsilon": 0.03,
    "embedding_multiplier": 1.7, "attention_multiplier": 0.4, "logits_scaling": 1.6, "residual_multiplier": 0.6,
    "routed_scaling_factor": 1.7, "moe_routed_scaling_factor": 1.7, "route_scale": 1.7, "router_scaling_factor": 1.7,
    "logit_scale": 0.3, "final_logit_softcapping": 4.0, "attn_logit_softcapping": 3.0, "logits_soft_cap": 4.0,
    "moe_router_logit_softcapping": 1.5, "query_pre_attn_scalar": 11, "clip_qkv": 0.9, "swiglu_limit": 0.7,
    "lm_head_multiplier": 0.6, "key_multiplier": 0.7, "attention_in_multiplier": 1.3, "attention_out_multiplier": 0.8,
    "ssm_in_multiplier": 1.2, "ssm_out_multiplier": 0.7, "mlp_multipliers": [0.8, 1.4],
    "ssm_multipliers": [0.7, 1.2, 0.9, 1.3, 0.6], "time_step_limit": [0.02, 0.3], "attention_value_scale": 0.6,
    "scale_emb": 2.5, "scale_depth": 1.1, "dim_model_base": 20, "full_attn_alpha_factor": 1.2, "full_attn_beta_factor": 0.7,
    "linear_attn_alpha_factor": 0.8, "linear_attn_beta_factor": 1.3, "mlp_alpha_factor": 0.9, "mlp_beta_factor": 1.2,
    "hc_magnitude": 1.5, "rope_theta": 300.0, "rope_parameters": {"rope_theta": 300.0}, "rotary_pct": 0.5,
    "attn_scale": 0.3, "floor_scale": 7, "mixer_rms_eps": 0.03,
}

# What the archive's older configs mean where transformers 5.17 reads them otherwise.
MEANT = {"gpt_neox+seq": {"rotary_pct": 0.5}}


def merged(base, changes):
    result = dict(base)
    for key, value in changes.items():
        if value is DROP:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def find(config, names):
    """The names that this config has a value for, with the value."""
    return {name: config[name] for name in names if config.get(name) is not None}


def first(config, names):
    return next(iter(find(config, names).values()), None)


def layers(config, count):
    """Another number of layers: lists with an entry a layer go round again."""
    before = first(config, LAYERS) or len(config.get("layers_block_type", []))
    changes = {name: count for name in find(config, LAYERS)}
    for key, value in config.items():
        if isinstance(value, list) and len(value) == before and key not in ("time_step_limit", "mlp_multipliers"):
            changes[key] = [value[i % before] for i in range(count)]
    if "attention_types" in config:  # gpt_neo
        changes |= {"attention_types": [[["global", "local"], count // 2]], "attention_layers": DROP}
    return changes | {name: DROP for name in DERIVED if name in config}


def heads(config, count, kv_heads, hidden, head_dim):
    """Other head counts: with a head size of its own where the config has one."""
    if first(config, HEADS) is None and "num_heads" not in config:
        return None
    changes = {name: count for name in find(config, HEADS)}
    old_kv = first(config, KV_HEADS)
    if old_kv is not None:
        same = old_kv == first(config, HEADS)
        changes |= {name: count if same else kv_heads for name in find(config, KV_HEADS)}
    changes |= {name: hidden for name in find(config, HIDDEN)}
    changes |= {name: hidden for name, value in find(config, WIDE_AS_HIDDEN).items() if value == first(config, HIDDEN)}
    changes |= {name: DROP for name in DERIVED if name in config}
    latent = "qk_rope_head_dim" in config
    if config.get("head_dim") is not None and not latent:
        changes["head_dim"] = head_dim
    elif latent:
        changes["head_dim"] = DROP
    if "rotary_dim" in config:
        changes["rotary_dim"] = 4
    if "num_attention_heads_per_layer" in config:
        changes["num_attention_heads_per_layer"] = [count] * config["num_hidden_layers"]
    inner = hidden * config.get("mamba_expand", config.get("expand", 2))
    if "mamba_d_ssm" in config:
        changes["mamba_d_ssm"] = inner
    if config["model_type"] in ("zamba", "zamba2"):
        changes["attention_hidden_size"] = DROP
    if "mamba_n_heads" in config:
        changes |= {"mamba_n_heads": count, "mamba_d_head": inner // count}
    if config["model_type"] == "mamba2":
        changes |= {"num_heads": count, "head_dim": inner // count}
    if config["model_type"] == "gpt_neo":
        changes |= {"num_heads": count, "hidden_size": count * 8}
    if "n_mamba_heads" in config:
        changes["n_mamba_heads"] = count if config["n_mamba_heads"] > 1 else 1
    if config["model_type"] == "dbrx":
        changes["attn_config"] = {"kv_n_heads": kv_heads}
    return changes


def odd(config):
    changes = layers(config, (first(config, LAYERS) or len(config["layers_block_type"])) + 2)
    changes |= {"vocab_size": 131, "tie_word_embeddings": not config["tie_word_embeddings"]}
    changes |= {name: 37 for name, value in find(config, FFN).items() if not isinstance(value, list)}
    changes |= {name: 11 for name in find(config, EXPERT_FFN) if config[name]}
    if "vocab_size_per_layer_input" in config:
        changes["vocab_size_per_layer_input"] = 131
    return changes


def short(config):
    """One layer fewer, a larger vocabulary, an even smaller FFN."""
    count = (first(config, LAYERS) or len(config["layers_block_type"])) - 1
    changes = layers(config, count) | {"vocab_size": 257}
    changes |= {name: 21 for name, value in find(config, FFN).items() if not isinstance(value, list)}
    if "vocab_size_per_layer_input" in config:
        changes["vocab_size_per_layer_input"] = 257
    return changes


def room(config):
    return {name: value for name, value in ROOM.items() if name in config}


def windows(size):
    def axis(config):
        found = find(config, WINDOWS)
        return (room(config) | {name: size for name in found}) if found else None
    return axis


def long_prompt(config):
    return None if find(config, WINDOWS) else room(config)


def experts(config):
    if not find(config, EXPERTS) and "ffn_config" not in config:
        return None
    changes = {name: 6 for name in find(config, EXPERTS)} | {name: 3 for name in find(config, TOP_K)}
    changes |= {name: 3 for name in find(config, GROUPS)} | {name: 2 for name in find(config, ("topk_group",))}
    changes |= {name: 3 for name, value in find(config, SHARED).items() if value}
    if "ffn_config" in config:  # dbrx
        changes["ffn_config"] = {"moe_num_experts": 6, "moe_top_k": 3}
    return changes


def numbers(config):
    changes = {}
    for key, value in NUMBERS.items():
        if isinstance(value, dict):
            old = config.get(key)
            if isinstance(old, dict):
                nested = [name for name, inner in old.items() if isinstance(inner, dict)]
                changes[key] = {name: value for name in nested} if nested else value
        elif key in config:
            changes[key] = value
    return changes


def activation(config):
    found = find(config, ACTIVATIONS)
    return {name: "relu" if "gelu" in value else "gelu_pytorch_tanh" for name, value in found.items()} or None


def latent(config):
    if "kv_lora_rank" not in config:
        return None
    return {"kv_lora_rank": 20, "qk_nope_head_dim": 10, "qk_rope_head_dim": 12, "v_head_dim": 14, "head_dim": DROP,
            "qk_head_dim": DROP} | ({"q_lora_rank": 28} if config.get("q_lora_rank") else {})


def latent_plain(config):
    return {"q_lora_rank": None} if config.get("q_lora_rank") and "kv_lora_rank" in config else None


def recurrent(config):
    sizes = {"mamba_d_state": 12, "state_size": 12, "ssm_state_size": 12, "mamba_d_conv": 3, "conv_kernel": 3,
             "linear_conv_kernel_dim": 3, "conv1d_width": 3, "conv_L_cache": 5, "time_step_rank": 3, "mamba_dt_rank": 3,
             "linear_num_key_heads": 3, "linear_num_value_heads": 6, "linear_key_head_dim": 12,
             "linear_value_head_dim": 20, "mamba_n_groups": 2, "n_groups": 2, "mamba_ngroups": 2, "chunk_size": 5,
             "mamba_chunk_size": 5, "linear_num_heads": 3, "linear_head_dim": 12, "block_size": 5}
    changes = {name: value for name, value in sizes.items() if config.get(name) is not None}
    if config["model_type"] in ("mamba", "falcon_mamba"):
        changes["expand"] = 3
        changes["intermediate_size"] = 3 * config["hidden_size"]
    return changes or None


def rope(**settings):
    def axis(config):
        old = config.get("rope_parameters")
        if not isinstance(old, dict) or old.get("rope_type") != "default":
            return None
        return {"rope_parameters": settings}
    return axis


def yarn(config):
    changes = rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)(config)
    return changes and changes | {"max_position_embeddings": 128}


AXES = {
    "odd": odd,
    "short": short,
    "heads6": lambda config: heads(config, 6, 2, 42 if config.get("head_dim") else 48, 12),
    "heads5": lambda config: heads(config, 5, 1, 40, 6),
    "heads3": lambda config: heads(config, 3, 3, 36, 20),
    "window5": windows(5),
    "window11": windows(11),
    "long": long_prompt,
    "experts": experts,
    "numbers": numbers,
    "activation": activation,
    "latent": latent,
    "latent_plain": latent_plain,
    "recurrent": recurrent,
    "yarn": yarn,
    "llama3": rope(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=32),
    "linear": rope(rope_type="linear", factor=2.5),
}

# What a family alone has: changes of its base by case, {} merged after ADJUST.
SPECIAL = {
    "deepseek_v4": {
        # Every kind of layer, rates that divide no page, YaRN, hashed and chosen experts.
        "layers": {
            "layer_types": ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention",
                            "compressed_sparse_attention"],
            "num_hidden_layers": 4, "mlp_layer_types": ["hash_moe", "moe", "moe", "hash_moe"],
            "compress_rates": {"compressed_sparse_attention": 3, "heavily_compressed_attention": 10},
            "sliding_window": 6, "partial_rotary_factor": 0.5, "rope_theta": 100.0, "compress_rope_theta": 500.0,
            "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        },
    },
    "gemma4_text": {
        # Experts as in the published checkpoint: no inputs of the layers, values that are keys.
        "experts_alone": {
            "enable_moe_block": True, "num_experts": 8, "top_k_experts": 3, "moe_intermediate_size": 12,
            "intermediate_size": 37, "hidden_size_per_layer_input": 0, "attention_k_eq_v": True,
            "final_logit_softcapping": 30.0, "rms_norm_eps": 0.03,
        },
    },
    "glm_moe_dsa": {
        # Layers that share a choice.
        "shared": {"mlp_layer_types": ["dense", "dense", "sparse"], "indexer_types": ["full", "shared", "shared"]},
    },
}

# What a family needs for an axis, or every axis ("*") to make sense; None: the axis does not apply.
MANY_INDEXER_HEADS = {"index_n_heads": 16, "index_head_dim": 20}  # with few, some scores are exactly 0, which tie
NO_THIRD_EXPERT = {"num_experts_per_tok": 2}
ADJUST = {
    ("deepseek_v32", "*"): MANY_INDEXER_HEADS,
    ("glm_moe_dsa", "*"): MANY_INDEXER_HEADS,
    ("deepseek_v4", "*"): {"o_groups": 2, "o_lora_rank": 12, "index_n_heads": 8, "index_head_dim": 24, "head_dim": 16,
                           "q_lora_rank": 24},
    ("deepseek_v4", "heads6"): {"head_dim": 24},
    ("deepseek_v4", "heads5"): {"o_groups": 1, "head_dim": 16},
    ("deepseek_v4", "heads3"): {"o_groups": 3},
    ("phimoe", "experts"): NO_THIRD_EXPERT,  # its router takes two, whatever the config says
    ("jetmoe", "heads6"): {"num_key_value_heads": 3},  # the heads of two experts
    ("jetmoe", "heads5"): {"num_attention_heads": 10, "num_key_value_heads": 5},
    ("jetmoe", "heads3"): {"num_attention_heads": 2, "num_key_value_heads": 1},
    ("jetmoe", "experts"): {"num_attention_heads": 6},
    ("qwen3_next", "heads5"): {"head_dim": 8},  # a quarter of it turns
    ("qwen3_5_text", "heads5"): {"head_dim": 8},
    ("qwen3_5_moe_text", "heads5"): {"head_dim": 8},
    ("zamba", "odd"): {"tie_word_embeddings": True},  # untied, transformers unties its shared layers too
    ("zamba2", "odd"): {"tie_word_embeddings": True},
    ("doge", "window11"): {"vocab_size": 1031},  # in its first layer equal tokens tie: few of them
    ("zamba", "short"): None,
    ("bamba", "short"): {"attn_layer_indices": [1]},
    ("codegen", "heads6"): {"n_head": 8, "n_embd": 96},  # multiples of its 4 partitions
    ("codegen", "heads5"): {"n_head": 12, "n_embd": 48},
    ("codegen", "heads3"): None,
    ("cohere", "odd"): {"tie_word_embeddings": True},
    ("cohere2", "odd"): {"tie_word_embeddings": True},
    ("cohere2_moe", "odd"): {"tie_word_embeddings": True},
    ("dbrx", "odd"): {"tie_word_embeddings": False},
    ("diffllama", "heads5"): {"num_attention_heads": 10, "num_key_value_heads": 2},
    ("diffllama", "heads3"): {"num_attention_heads": 6, "num_key_value_heads": 6},
    ("gemma3n_text", "short"): {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
                                "activation_sparsity_pattern": [0.9, 0.0], "intermediate_size": [21, 21],
                                "num_kv_shared_layers": 0},
    ("gemma4_text", "odd"): {"per_layer_config": {"5": {"head_dim": 32}}},
    ("gemma4_text", "short"): {"per_layer_config": DROP},
    ("gemma4_unified_text", "odd"): {"per_layer_config": DROP},
    ("gemma4_unified_text", "short"): {"per_layer_config": DROP},
    ("gpt_neo", "short"): {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    ("kimi_linear", "short"): {"layer_types": ["linear_attention", "linear_attention", "full_attention"],
                               "linear_attn_config": {"full_attn_layers": [3], "kda_layers": [1, 2]}},
    ("phi3", "yarn"): None, ("phi3", "llama3"): None, ("phi3", "linear"): None,
    ("phimoe", "yarn"): None, ("phimoe", "llama3"): None, ("phimoe", "linear"): None,
    ("recurrent_gemma", "yarn"): None, ("recurrent_gemma", "llama3"): None, ("recurrent_gemma", "linear"): None,
    ("recurrent_gemma", "short"): {"num_hidden_layers": 5, "block_types": ["recurrent", "recurrent", "attention"]},
    ("stablelm", "heads3"): {"hidden_size": 48},
    ("deepseek_v32", "latent_plain"): None, ("glm_moe_dsa", "latent_plain"): None, ("hy_v4", "latent_plain"): None,
    ("gemma4_text", "enable_moe_block"): {"top_k_experts": 2},
    ("gemma4_text", "experts"): {"enable_moe_block": True, "top_k_experts": 3, "moe_intermediate_size": 11},
    ("minimax", "heads6"): {"block_size": 4},  # beyond half a head Baize uses the decays and not the rounded tables
    ("minimax", "heads5"): {"block_size": 3},
    ("laguna", "moe_apply_router_weight_on_input"): None,
    ("gemma3_text", "use_bidirectional_attention"): None,  # an encoder
    ("mimo_v2_flash", "heads6"): {"num_key_value_heads": 3},  # windows have twice as many
    ("mimo_v2_flash", "heads5"): {"num_attention_heads": 10, "num_key_value_heads": 5},
    ("mimo_v2_flash", "heads3"): None,
    ("nemotron_h", "*"): {"moe_shared_expert_intermediate_size": 24},
}


def switches(config):
    """One case for each switch, turned."""
    for key, value in config.items():
        if isinstance(value, bool) and key not in NO_SWITCHES:
            yield key, {key: not value}


def cases(bases):
    """{name: (config, tokens of the long prompt)} for all families of `bases` ({case: config})."""
    table = {}
    for family in sorted({config["model_type"] for config in bases.values()}):
        base = merged(bases[family], ADJUST.get((family, "*"), {}))
        axes = {name: axis(base) for name, axis in AXES.items()} | dict(switches(base)) | SPECIAL.get(family, {})
        for name, changes in axes.items():
            adjust = ADJUST.get((family, name), {})
            if changes is None or adjust is None:
                continue
            config = merged(merged(base, changes), adjust)
            if config == base and name != "long":
                continue
            long_tokens = LONG if name in ("window5", "window11", "long") else 96
            table[f"{family}@{name}"] = (config, long_tokens)
    return table
