set 'pipeline.name' = '{{ name }}: data products';
set 'execution.runtime-mode' = 'streaming';
set 'parallelism.default' = '{{ flink.parallelism }}';
set 'table.local-time-zone' = 'UTC';

-- without a place that outlives the job, large state makes it start again for ever
set 'execution.checkpointing.interval' = '{{ (flink.checkpoint_seconds * 1000) | int }} ms';
set 'execution.checkpointing.storage' = 'filesystem';
set 'execution.checkpointing.dir' = '{{ checkpoint_dir }}';
set 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
set 'state.backend.type' = '{{ flink.state_backend }}';
set 'table.optimizer.reuse-optimize-block-with-digest-enabled' = 'true';
set 'table.exec.state.ttl' = '{{ flink.state_days }} d';
{% if flink.mini_batch_ms %}
set 'table.exec.mini-batch.enabled' = 'true';
set 'table.exec.mini-batch.allow-latency' = '{{ flink.mini_batch_ms }} ms';
set 'table.exec.mini-batch.size' = '20000';
{% endif %}
{% if recover_from %}
set 'execution.state-recovery.path' = '{{ recover_from }}';
{% endif %}
