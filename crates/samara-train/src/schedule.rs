//! The course of the learning rate.

use std::f64::consts::PI;

use crate::recipe::{OptimizerSpec, ScheduleKind};

/// The learning rate of `step`, counted from 0, in a run of `steps`.
pub fn learning_rate(spec: &OptimizerSpec, step: u64, steps: u64) -> f64 {
    if step < spec.warmup {
        return spec.lr * (step + 1) as f64 / spec.warmup as f64;
    }
    let progress = (step - spec.warmup) as f64 / steps.saturating_sub(spec.warmup).max(1) as f64;
    spec.lr
        * match spec.schedule {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => 0.01 + 0.99 * 0.5 * (1.0 + (PI * progress.min(1.0)).cos()),
            // 60 000 and 86 666 of 90 000 steps (SAM, appendix A).
            ScheduleKind::Step if progress < 2.0 / 3.0 => 1.0,
            ScheduleKind::Step if progress < 86_666.0 / 90_000.0 => 0.1,
            ScheduleKind::Step => 0.01,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(schedule: ScheduleKind) -> OptimizerSpec {
        OptimizerSpec {
            lr: 2.0,
            weight_decay: 0.1,
            betas: [0.9, 0.999],
            clip_norm: None,
            warmup: 10,
            schedule,
            layer_decay: None,
        }
    }

    #[test]
    fn rises_then_follows_its_course() {
        let at = |schedule, step| learning_rate(&spec(schedule), step, 110);
        assert!((at(ScheduleKind::Cosine, 0) - 0.2).abs() < 1e-12);
        assert_eq!(at(ScheduleKind::Constant, 9), 2.0);
        assert_eq!(at(ScheduleKind::Constant, 109), 2.0);
        assert!((at(ScheduleKind::Cosine, 60) - 1.01).abs() < 1e-12);
        assert!(at(ScheduleKind::Cosine, 109) < 0.022);
        assert_eq!(at(ScheduleKind::Step, 70), 2.0);
        assert!((at(ScheduleKind::Step, 90) - 0.2).abs() < 1e-12);
        assert!((at(ScheduleKind::Step, 109) - 0.02).abs() < 1e-12);
    }

    #[test]
    fn a_run_shorter_than_its_warm_up_only_rises() {
        let spec = spec(ScheduleKind::Cosine);
        let rates: Vec<f64> = (0..5).map(|step| learning_rate(&spec, step, 5)).collect();
        assert!(rates.windows(2).all(|pair| pair[0] < pair[1]) && rates[4] <= 1.0);
        assert_eq!(learning_rate(&spec, 10, 10), 2.0);
    }
}
