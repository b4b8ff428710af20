//! What networks refuse to compute.

use seedfarm_core::Numerics;

use super::*;

#[test]
fn rows_that_do_not_fit_an_encoder_are_refused() {
    let encoder = &networks("tiny-inpaint", Numerics::Fast).texts[0].encoder;
    let learned = |place: usize, width: usize| TokenRow {
        ids: vec![592, 593],
        learned: vec![(place, vec![0.0; width])],
    };
    for (row, part) in [
        (TokenRow::default(), "0 tokens"),
        (TokenRow::from(vec![1; 12]), "12 tokens"),
        (TokenRow::from(vec![594]), "token 594"),
        (learned(2, 10), "place 2"),
        (learned(1, 9), "9 numbers"),
    ] {
        let error = encoder.forward(&row, 0).unwrap_err().to_string();
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    }
}

#[test]
fn conditions_and_residuals_that_do_not_fit_a_network_are_refused() {
    let golden = Golden::sdxl();
    let unet = networks("tiny-sdxl", Numerics::Fast).unet;
    let refused = |conditions: &[Conditions], part: &str| {
        let error = unet.added(conditions).unwrap_err().to_string();
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    };
    refused(&none(), "needs a pooled text");
    let mut wide = none();
    wide[0].pooled = Some(normal(1, &[1, 11]));
    refused(&wide, "width 11");

    let conditions = pooled(&golden, &golden, "/mixed/time_ids");
    let keys = unet.text_keys(&golden.texts("text", "skip_0")).unwrap();
    let x = latents(21, 4);
    let fails = |added: &[Conditions], residuals: Option<&Residuals>, part: &str| {
        let added = unet.added(added).unwrap();
        let error = unet.forward(&x, &[5.0], &keys, added.as_ref(), residuals).unwrap_err().to_string();
        assert!(error.contains(part), "'{error}' lacks '{part}'");
    };
    fails(&conditions[..2], None, "2 conditions");
    let few = Residuals { down: vec![normal(1, &[1])], mid: normal(1, &[1]) };
    fails(&conditions, Some(&few), "with 1 outputs");
    let misshapen = Residuals { down: vec![normal(1, &[1]); 6], mid: normal(1, &[1]) };
    fails(&conditions, Some(&misshapen), "shape [1]");
    let error = unet.forward(&x, &[5.0], &keys, None, None).unwrap_err().to_string();
    assert!(error.contains("another network"), "{error}");
}

#[test]
fn a_hint_of_another_size_is_refused() {
    let control = ControlNet::load(&folder("tiny-control"), &ops(Numerics::Fast)).unwrap();
    let keys = control.text_keys(&normal(51, &[SAMPLES, 5, 10])).unwrap();
    let x = latents(41, 4);
    for shape in [[1, 3, 64, 56], [2, 3, 72, 56]] {
        let hint = control.hint(&normal(52, &shape)).unwrap();
        let call =
            Call { latents: &x, timesteps: &[1.0], text_keys: &keys, added: None, hint: &hint, scale: 1.0 };
        let error = control.forward(&call).unwrap_err().to_string();
        assert!(error.contains("do not fit 3 samples of 7 by 9"), "{error}");
    }
}
