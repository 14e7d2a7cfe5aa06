//! Parameters: how many there are, where they stand, how they begin.

use crate::model::layout::Layout;
use crate::model::{ModelConfig, Network};
use crate::testing::{all_shapes, cpu, lively, parameter, shapes};

#[test]
fn a_layout_has_exactly_the_parameters_that_its_shape_counts_one_after_the_other() {
    let [gpt2, llama, grouped] = shapes();
    let odd = ModelConfig {
        intermediate_size: 4 * gpt2.hidden_size + 3,
        layers: 3,
        max_position_embeddings: 7,
        ..gpt2
    };
    let untied = ModelConfig { tied: false, ..llama };
    let one_kv_head = ModelConfig { kv_heads: 1, tied: true, ..grouped };
    for config in all_shapes().into_iter().chain([odd, untied, one_kv_head]) {
        let head = if config.tied { 0 } else { config.vocab * config.hidden_size };
        let scorer = config.parameters() as usize - head + config.hidden_size + 1;
        for (has_value_head, count) in [(false, config.parameters() as usize), (true, scorer)] {
            let layout = Layout::new(&config, has_value_head);
            assert_eq!(layout.len(), count, "{config:?}");
            let mut end = 0;
            for entry in layout.entries() {
                assert_eq!(entry.range.start, end, "{config:?}: {}", entry.name);
                assert_eq!(entry.range.len(), entry.shape.iter().product::<usize>());
                assert_eq!(layout.entry(&entry.name), Some(entry), "no name stands twice");
                end = entry.range.end;
            }
            let halves = layout.layers.iter().flatten().map(|half| half.region.clone());
            let mut end = layout.last.end;
            for region in halves {
                assert_eq!(region.start, end, "{config:?}: halves of layers follow one another");
                end = region.end;
            }
            assert_eq!(end, layout.len());
        }
    }
}

#[test]
fn a_fresh_model_depends_on_its_seed_alone_and_begins_as_gpt2_does() {
    let config = ModelConfig {
        hidden_size: 96,
        head_dim: 32,
        intermediate_size: 384,
        layers: 4,
        ..shapes()[0].clone()
    };
    let drawn = |seed| Network::drawn(&config, seed, &cpu());
    assert_eq!(drawn(1).weights().values(), drawn(1).weights().values());
    assert_ne!(parameter(&drawn(1), "token_embedding"), parameter(&drawn(2), "token_embedding"));
    let model = drawn(1).with_value_head(1);
    let deviation = |name: &str| {
        let values = parameter(&model, name);
        (values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    for (name, wanted, within) in [
        ("token_embedding", 0.02, 0.05),
        ("blocks.0.attention.qkv.weight", 0.02, 0.05),
        ("blocks.3.feed_forward.up.weight", 0.02, 0.05),
        ("blocks.0.attention.out.weight", 0.02 / 8f64.sqrt(), 0.05),
        ("blocks.3.feed_forward.down.weight", 0.02 / 8f64.sqrt(), 0.05),
        ("value_head.weight", 1.0 / 97f64.sqrt(), 0.25),
    ] {
        let got = deviation(name);
        assert!((got / wanted - 1.0).abs() < within, "{name}: {got} instead of {wanted}");
    }
    for entry in model.layout().entries().iter().filter(|entry| entry.shape.len() == 1) {
        let wanted = if entry.name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        assert!(parameter(&model, &entry.name).iter().all(|&x| x == wanted), "{}", entry.name);
    }
}

#[test]
fn a_scalar_head_leaves_the_decoder_as_it_is() {
    for config in all_shapes() {
        let decoder = lively(&config, 1, &cpu());
        let with_head = decoder.with_value_head(2);
        for entry in decoder.layout().entries().iter().filter(|entry| entry.name != "head") {
            assert_eq!(
                parameter(&decoder, &entry.name),
                parameter(&with_head, &entry.name),
                "{}",
                entry.name
            );
        }
        assert!(parameter(&with_head, "value_head.weight").iter().all(|&x| x != 0.0));
        assert_ne!(
            parameter(&with_head, "value_head.weight"),
            parameter(&decoder.with_value_head(3), "value_head.weight")
        );
    }
}

#[test]
fn matrices_are_decayed_and_vectors_are_not() {
    for config in all_shapes() {
        let model = Network::drawn(&config, 0, &cpu()).with_value_head(0);
        let segments = model.segments();
        assert_eq!(segments.iter().map(|(range, _)| range.len()).sum::<usize>(), model.weights().len());
        for (entry, (range, decays)) in model.layout().entries().iter().zip(segments) {
            assert_eq!(entry.range, range);
            assert_eq!(decays, !(entry.name.ends_with("bias") || entry.name.ends_with("norm.weight")));
        }
    }
}

#[test]
fn tables_of_rope_that_would_fill_the_memory_are_refused() {
    let [_, llama, _] = shapes();
    // The weights of this shape have 2 MiB; its angles would have 1 GiB.
    let wide =
        ModelConfig { hidden_size: 256, heads: 1, kv_heads: 1, head_dim: 256, vocab: 1, layers: 1, ..llama };
    wide.check().unwrap();
    let long = ModelConfig { max_position_embeddings: 1 << 20, ..wide };
    let said = long.check().unwrap_err().to_string();
    assert!(said.contains("max_position_embeddings"), "{said}");
}
