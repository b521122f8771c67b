"""Every name of vLLM on which we rely, as text: tests compare it with the sources of several versions."""

import inspect
import re
from importlib import import_module
from typing import Any

USES: tuple[str, ...] = (
    "vllm.version:__version__",
    "vllm.engine.arg_utils:AsyncEngineArgs",
    "vllm.engine.arg_utils:EngineArgs(model, served_model_name, load_format, kv_cache_memory_bytes, enforce_eager, "
    "scheduling_policy, structured_outputs_config, max_model_len, dtype, max_num_seqs, runner, enable_lora, max_loras, "
    "max_cpu_loras, max_lora_rank)",
    "vllm.engine.arg_utils:EngineArgs.create_engine_config()",
    "vllm.config.vllm:VllmConfig.model_config",
    "vllm.config.vllm:VllmConfig.cache_config",
    "vllm.config.vllm:VllmConfig.scheduler_config",
    "vllm.config.cache:CacheConfig.num_gpu_blocks",
    "vllm.config.cache:CacheConfig.gpu_memory_utilization",
    "vllm.config.cache:CacheConfig.block_size",
    "vllm.config.cache:CacheConfig.kv_cache_memory_bytes",
    "vllm.config.scheduler:SchedulerConfig.max_num_seqs",
    "vllm.config.model:ModelConfig.max_model_len",
    "vllm.config.model:ModelConfig.dtype",
    "vllm.config.model:ModelConfig.get_diff_sampling_param()",
    "vllm.config.model:ModelConfig.try_get_generation_config()",
    "vllm.config.model:ModelConfig.get_total_num_kv_heads()",
    "vllm.config.model:ModelConfig.use_mla",
    "vllm.config.model:ModelConfig.get_head_size()",
    "vllm.config.model:ModelConfig.get_total_num_hidden_layers()",
    "vllm.config.vllm:VllmConfig.parallel_config",
    "vllm.config.parallel:ParallelConfig.tensor_parallel_size",
    "vllm.config.parallel:ParallelConfig.worker_extension_cls",
    "vllm.config.scheduler:SchedulerConfig.max_num_batched_tokens",
    "vllm.config.model:ModelConfig.hf_text_config",
    "vllm.config.model:ModelConfig.architectures",
    "vllm.config.model:ModelConfig.get_hidden_size()",
    "vllm.config.model:ModelConfig.get_vocab_size()",
    "vllm.config.vllm:set_current_vllm_config(vllm_config)",
    "vllm.config.vllm:get_layers_from_vllm_config(vllm_config, layer_type)",
    "vllm.distributed.parallel_state:init_distributed_environment(world_size, rank, distributed_init_method, "
    "local_rank, backend)",
    "vllm.distributed.parallel_state:initialize_model_parallel(tensor_model_parallel_size, "
    "pipeline_model_parallel_size)",
    "vllm.model_executor.layers.attention_layer_base:AttentionLayerBase.get_kv_cache_spec(vllm_config)",
    "vllm.model_executor.layers.vocab_parallel_embedding:UnquantizedEmbeddingMethod",
    "vllm.model_executor.model_loader.utils:initialize_model(vllm_config)",
    "vllm.tokenizers.registry:cached_tokenizer_from_config(model_config)",
    "vllm.utils.import_utils:import_pynvml()",
    "vllm.platforms.interface:Platform.device_id_to_physical_device_id(device_id)",
    "vllm.platforms.interface:Platform.is_cuda()",
    "vllm.utils.torch_utils:set_default_torch_dtype(dtype)",
    "vllm.v1.kv_cache_interface:KVCacheSpec.max_memory_usage_bytes(vllm_config)",
    "vllm.v1.kv_cache_interface:KVCacheSpec.page_size_bytes",
    "vllm.v1.engine.async_llm:AsyncLLM.collective_rpc(method)",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.kv_caches",
    "vllm.exceptions:VLLMValidationError.parameter",
    "vllm.platforms.interface:Platform.is_cpu()",
    "vllm.platforms.interface:Platform.get_device_name()",
    "vllm.renderers.params:ChatParams(chat_template_kwargs)",
    "vllm.renderers.params:TokenizeParams(max_total_tokens)",
    "vllm.renderers.base:BaseRenderer.render_chat_async(conversations, chat_params, tok_params, prompt_extras)",
    "vllm.renderers.base:BaseRenderer.render_cmpl_async(prompts, tok_params, prompt_extras)",
    "vllm.renderers.base:BaseRenderer.default_chat_tok_params",
    "vllm.renderers.base:BaseRenderer.default_cmpl_tok_params",
    "vllm.renderers.inputs.preprocess:parse_model_prompt(model_config, prompt)",
    "vllm.sampling_params:RequestOutputKind.DELTA",
    "vllm.sampling_params:RequestOutputKind.FINAL_ONLY",
    "vllm.sampling_params:StructuredOutputsParams(json, json_object, disable_any_whitespace)",
    "vllm.sampling_params:SamplingParams(max_tokens, temperature, top_p, top_k, min_p, seed, presence_penalty, "
    "frequency_penalty, repetition_penalty, stop, ignore_eos, logprobs, structured_outputs, output_kind)",
    "vllm.v1.engine.async_llm:AsyncLLM.from_vllm_config(vllm_config, stat_loggers, disable_log_stats)",
    "vllm.v1.engine.async_llm:AsyncLLM.generate(prompt, sampling_params, request_id, lora_request, priority)",
    "vllm.v1.engine.async_llm:AsyncLLM.abort(request_id)",
    "vllm.v1.engine.async_llm:AsyncLLM.encode(prompt, pooling_params, request_id, priority)",
    "vllm.v1.engine.async_llm:AsyncLLM.get_supported_tasks()",
    "vllm.pooling_params:PoolingParams(task, dimensions)",
    "vllm.pooling_params:PoolingParams.clone()",
    "vllm.outputs:PoolingRequestOutput.num_cached_tokens",
    "vllm.outputs:PoolingRequestOutput.outputs",
    "vllm.outputs:PoolingOutput.data",
    "vllm.config.model:ModelConfig.runner_type",
    "vllm.v1.engine.async_llm:AsyncLLM.add_lora(lora_request)",
    "vllm.v1.engine.async_llm:AsyncLLM.remove_lora(lora_id)",
    "vllm.lora.request:LoRARequest(lora_name, lora_int_id, lora_path)",
    "vllm.config.lora:LoRAConfig(max_loras, max_cpu_loras, max_lora_rank)",
    "vllm.v1.engine.async_llm:AsyncLLM.pause_generation(mode, clear_cache)",
    "vllm.v1.engine.async_llm:AsyncLLM.resume_generation()",
    "vllm.v1.engine.async_llm:AsyncLLM.is_sleeping()",
    "vllm.v1.engine.async_llm:AsyncLLM.sleep(level, mode)",
    "vllm.v1.engine.async_llm:AsyncLLM.wake_up(tags)",
    "vllm.platforms.interface:Platform.is_sleep_mode_available()",
    "vllm.config.model:ModelConfig.enable_sleep_mode",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.get_model()",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.reload_weights()",
    "vllm.v1.engine.async_llm:AsyncLLM.shutdown(timeout)",
    "vllm.v1.engine.async_llm:AsyncLLM.errored",
    "vllm.v1.engine.async_llm:AsyncLLM.renderer",
    "vllm.v1.engine.async_llm:AsyncLLM.output_processor",
    "vllm.v1.engine.async_llm:AsyncLLM.vllm_config",
    "vllm.v1.engine.output_processor:OutputProcessor.get_num_unfinished_requests()",
    "vllm.renderers.base:BaseRenderer.get_tokenizer()",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.from_new_request(tokenizer, request)",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.update(new_token_ids, stop_terminated)",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.get_next_output_text(finished, delta)",
    "vllm.v1.engine.exceptions:EngineDeadError",
    "vllm.v1.engine.exceptions:EngineGenerateError",
    "vllm.v1.metrics.loggers:StatLoggerBase.record(scheduler_stats, iteration_stats, mm_cache_stats, engine_idx)",
    "vllm.v1.metrics.loggers:StatLoggerBase.log_engine_initialized()",
    "vllm.v1.metrics.stats:SchedulerStats(num_running_reqs, num_waiting_reqs, kv_cache_usage, prefix_cache_stats)",
    "vllm.v1.metrics.stats:IterationStats.num_prompt_tokens",
    "vllm.v1.metrics.stats:IterationStats.num_generation_tokens",
    "vllm.v1.metrics.stats:IterationStats.finished_requests",
    "vllm.v1.metrics.stats:RequestStateStats(first_token_latency)",
    "vllm.outputs:RequestOutput.num_cached_tokens",
    "vllm.outputs:RequestOutput.metrics",
    "vllm.outputs:RequestOutput.outputs",
    "vllm.outputs:RequestOutput.finished",
    "vllm.outputs:CompletionOutput(text, token_ids, logprobs, finish_reason, stop_reason)",
    "vllm.logprobs:Logprob(logprob, rank, decoded_token)",
)
"""`module:Class.attribute(parameters)`, for each name of vLLM that is used here."""

CORE_USES: tuple[str, ...] = (
    "vllm.v1.engine.async_llm:AsyncLLM.get_supported_tasks()",
    "vllm.v1.engine.core_client:AsyncMPClient.get_output_async()",
    "vllm.v1.engine.core_client:AsyncMPClient.add_request_async(request)",
    "vllm.v1.engine.core_client:AsyncMPClient.abort_requests_async(request_ids)",
    "vllm.v1.engine.input_processor:InputProcessor.process_inputs(request_id, prompt, params, supported_tasks, "
    "lora_request)",
    "vllm.v1.engine.input_processor:InputProcessor.assign_request_id(request)",
    "vllm.v1.engine:EngineCoreRequest(request_id, prompt_token_ids, sampling_params, lora_request, priority, "
    "arrival_time)",
    "vllm.v1.engine:EngineCoreOutputs(outputs, scheduler_stats)",
    "vllm.v1.engine:EngineCoreOutput(request_id, new_token_ids, new_logprobs, finish_reason, stop_reason, "
    "prefill_stats)",
    "vllm.v1.engine:FinishReason.STOP",
    "vllm.v1.engine:FinishReason.ERROR",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.from_new_request(tokenizer, request)",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.update(new_token_ids, stop_terminated)",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.get_next_output_text(finished, delta)",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.num_output_tokens()",
    "vllm.v1.engine.logprobs:LogprobsProcessor.from_new_request(tokenizer, request)",
    "vllm.v1.engine.logprobs:LogprobsProcessor.update_from_output(output)",
    "vllm.v1.engine.logprobs:LogprobsProcessor(logprobs)",
    "vllm.v1.outputs:LogprobsLists.slice_request(req_idx, num_positions)",
    "vllm.v1.metrics.stats:PrefillStats(num_prompt_tokens, num_computed_tokens, num_cached_tokens)",
    "vllm.v1.metrics.stats:SchedulerStats(num_running_reqs, num_waiting_reqs, kv_cache_usage, prefix_cache_stats)",
    "vllm.config.scheduler:SchedulerConfig(stream_interval)",
)
"""What `core_client` uses beside: inner names. Where one is missing, requests go through `async_client`."""

END_USES: tuple[str, ...] = ("vllm.v1.metrics.stats:FinishedRequestStats(request_id, num_generation_tokens)",)
"""By these `async_client` knows which answers are done: where one is missing, AsyncLLM gets all requests at once."""

METRIC_USES: tuple[str, ...] = (
    "vllm.v1.metrics.loggers:PrometheusStatLogger(vllm_config, engine_indexes)",
    "vllm.v1.metrics.loggers:PrometheusStatLogger.record(scheduler_stats, iteration_stats)",
    "vllm.v1.metrics.stats:RequestStateStats(arrival_time, num_generation_tokens)",
    "vllm.v1.metrics.stats:IterationStats.update_from_output(output, engine_core_timestamp, is_prefilling, req_stats, "
    "lora_states, lora_name)",
    "vllm.v1.metrics.stats:IterationStats.update_from_finished_request(finish_reason, request_id, num_prompt_tokens, "
    "max_tokens_param, req_stats, num_cached_tokens)",
    "vllm.v1.engine.output_processor:LoRARequestStates(log_stats)",
    "vllm.v1.engine.parallel_sampling:ParentRequest.observe_finished_request(parent_req, iteration_stats, "
    "num_generation_tokens)",
    "vllm.v1.engine:EngineCoreRequest(request_id, arrival_time, prompt_token_ids, sampling_params)",
    "vllm.v1.engine:EngineCoreOutputs(outputs, scheduler_stats, timestamp)",
)
"""What `vllm_metrics` uses: where one is missing, there are no metrics of vLLM's own."""

NOW_USES: tuple[str, ...] = (
    "vllm.renderers.hf:HfRenderer.render_messages(messages, params)",
    "vllm.tokenizers.hf:ThreadSafeHFTokenizerMixin",
    "vllm.inputs.engine:tokens_input(prompt_token_ids, cache_salt)",
    "vllm.config.model:ModelConfig.is_encoder_decoder",
    "vllm.renderers.params:TokenizeParams(do_lower_case, add_special_tokens)",
)
"""What `vllm_prompts` uses for short prompts: where one is missing, vLLM's threads render all of them."""

TEMPLATE_USES: tuple[str, ...] = (
    "vllm.renderers.hf:resolve_chat_template(tokenizer, chat_template, tools, model_config)",
    "vllm.renderers.hf:resolve_chat_template_content_format(chat_template, tools, given_format, tokenizer, "
    "model_config)",
    "vllm.renderers.chat_utils:_CLAUDE_CODE_BILLING_HEADER",
    "vllm.config.model:ModelConfig.enable_prompt_embeds",
    "transformers.utils.chat_template_utils:_compile_jinja_template(chat_template)",
)
"""What `chat_template` uses: where one is missing, vLLM applies the template."""

SOCKET_USES: tuple[str, ...] = (
    "vllm.v1.engine.core_client:_process_utility_output(output, utility_results)",
    "vllm.v1.engine.core_client:BackgroundResources(output_socket, output_queue_task, engine_dead)",
    "vllm.v1.engine.core_client:BackgroundResources.validate_alive(frames)",
    "vllm.v1.engine:EngineCoreOutputs(outputs, scheduler_stats, utility_output)",
)
"""What `core_socket` uses; where one is missing, vLLM's client reads the outputs."""

OBJECT_USES: tuple[str, ...] = (
    "vllm.v1.engine.core_client:MPClient.resources",
    "vllm.v1.engine.core_client:MPClient.decoder",
    "vllm.v1.engine.core_client:MPClient.vllm_config",
    "vllm.v1.engine.core_client:MPClient.utility_results",
    "vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.stop",
    "vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.include_stop_str_in_output",
    "vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.spaces_between_special_tokens",
    "vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.skip_special_tokens",
    "vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.stream",
    "vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.tokenizer",
)
"""Attributes that objects get when they are made, for reading outputs and making text cheaper; without one it is done
as everywhere."""

GPU_USES: tuple[str, ...] = (
    "vllm.platforms.cuda:CudaPlatformBase.device_count()",
    "vllm.platforms.interface:Platform.get_device_name(device_id)",
)
"""What `vllm_gpu` uses on a GPU; looked for in sources only, as without a driver that module cannot be imported."""


def split(use: str) -> tuple[str, list[str], list[str] | None]:
    """Return module, path of attributes and parameters of a line above."""
    found = re.fullmatch(r"([\w.]+):([\w.]+)(?:\((.*)\))?", use)
    assert found, use
    parameters = None if found[3] is None else [name.strip() for name in found[3].split(",") if name.strip()]
    return found[1], found[2].split("."), parameters


def absent(uses: tuple[str, ...]) -> list[str]:
    """Return which of these names the vLLM that is imported here lacks."""
    lacking = []
    for use in uses:
        module, path, parameters = split(use)
        try:
            found: Any = import_module(module)
            for name in path:
                found = getattr(found, name)
            has = inspect.signature(found).parameters if parameters else {}
        except (ImportError, AttributeError):
            lacking.append(use)
            continue
        if not set(parameters or ()) <= set(has):
            lacking.append(use)
    return lacking
