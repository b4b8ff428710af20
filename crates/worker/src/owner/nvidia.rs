//! What `nvidia-smi` prints of GPUs and of programs that compute on them.

use seedfarm_core::owner::Reading;

/// Asks for every GPU: index, id, degrees Celsius, watts.
pub(super) const GPUS: [&str; 2] =
    ["--query-gpu=index,uuid,temperature.gpu,power.draw", "--format=csv,noheader,nounits"];
/// Asks for every program that computes: the GPU's id, the process.
pub(super) const PROGRAMS: [&str; 2] = ["--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader,nounits"];

/// One GPU.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gpu {
    pub id: String,
    pub temperature_c: Reading<f64>,
    pub watts: Reading<f64>,
}

/// The GPU of the CUDA device `ordinal` in what was printed for [`GPUS`]. `visible` is CUDA_VISIBLE_DEVICES.
pub(super) fn gpu(printed: &str, ordinal: usize, visible: Option<&str>) -> Reading<Gpu> {
    let wanted = match visible.filter(|list| !list.trim().is_empty()) {
        Some(list) => list.split(',').nth(ordinal).map(|entry| entry.trim().to_owned()),
        None => Some(ordinal.to_string()),
    };
    let missing = || format!("nvidia-smi lists no GPU for cuda:{ordinal}");
    let wanted = wanted.ok_or_else(missing)?;
    let fields = |line: &str| line.split(',').map(|field| field.trim().to_owned()).collect::<Vec<_>>();
    let is_wanted = |fields: &Vec<String>| {
        fields.len() == 4
            && (fields[0] == wanted || wanted.starts_with("GPU-") && fields[1].starts_with(&wanted))
    };
    let found = printed.lines().map(fields).find(is_wanted).ok_or_else(missing)?;
    let number = |what: &str, text: &str| {
        text.parse::<f64>().map_err(|_| format!("nvidia-smi tells no {what} of cuda:{ordinal}"))
    };
    Ok(Gpu {
        temperature_c: number("temperature", &found[2]),
        watts: number("power", &found[3]),
        id: found[1].clone(),
    })
}

/// Whether a process other than `own` computes on the GPU `id`, in what was printed for [`PROGRAMS`].
pub(super) fn has_others(printed: &str, id: &str, own: u32) -> bool {
    let mut rows = printed.lines().filter_map(|line| line.split_once(','));
    rows.any(|(gpu, process)| gpu.trim() == id && process.trim().parse() != Ok(own))
}
