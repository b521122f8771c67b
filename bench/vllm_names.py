"""Every name of vLLM on which the comparisons rely, beside those of `ingled.worker.vllm_names`: tests look for them.

Options of `vllm serve`, and of its engine, are taken from the rows themselves.
"""

USES = (
    "vllm.engine.arg_utils:AsyncEngineArgs",
    "vllm.engine.arg_utils:EngineArgs.create_engine_config()",
    "vllm.platforms:current_platform",
    "vllm.platforms.interface:Platform.is_cpu()",
    "vllm.v1.engine.async_llm:AsyncLLM.from_vllm_config(vllm_config, disable_log_stats)",
    "vllm.v1.engine.async_llm:AsyncLLM.generate(prompt, sampling_params, request_id)",
    "vllm.v1.engine.async_llm:AsyncLLM.renderer",
    "vllm.renderers.params:ChatParams(chat_template_kwargs)",
    "vllm.renderers.base:BaseRenderer.render_chat_async(conversations, chat_params, tok_params)",
    "vllm.renderers.base:BaseRenderer.default_chat_tok_params",
    "vllm.sampling_params:RequestOutputKind.DELTA",
    "vllm.sampling_params:RequestOutputKind.FINAL_ONLY",
    "vllm.sampling_params:SamplingParams(max_tokens, temperature, ignore_eos, output_kind)",
    "vllm.outputs:RequestOutput.outputs",
    "vllm.outputs:CompletionOutput(text, token_ids)",
    "vllm.entrypoints.cli.main:main()",
)
"""As in `ingled.worker.vllm_names`; `bench.raw` and the rows use them."""
