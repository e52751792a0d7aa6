/** Learning rate over a stage: linear warm-up, then a cosine whose period includes it, as timm's scheduler. */
export interface Schedule {
  lr: number;
  min_lr: number;
  warmup_lr: number;
  warmup_epochs: number;
  epochs: number;
}

/** At `t` epochs since the stage began, fractions included. The published code steps once an epoch: pass whole numbers for it. */
export function learningRate(schedule: Schedule, t: number): number {
  const { lr, min_lr, warmup_lr, warmup_epochs, epochs } = schedule;
  if (t < warmup_epochs) return warmup_lr + ((lr - warmup_lr) * t) / warmup_epochs;
  if (t >= epochs) return min_lr;
  return min_lr + 0.5 * (lr - min_lr) * (1 + Math.cos((Math.PI * t) / epochs));
}
