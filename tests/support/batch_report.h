/* SPDX-License-Identifier: MIT */
/* Batch report: a trial that went wrong, as text: its ring, its nodes, its last events. */
#ifndef SAFERING_TESTS_SUPPORT_BATCH_REPORT_H
#define SAFERING_TESTS_SUPPORT_BATCH_REPORT_H

#include "support/batch_trial.h"

void batch_report_trial(const struct batch_trial *trial, FILE *out);
/* Of a large graph only the node at fault and what it depends on. */
void batch_report_run(const struct batch_run *run, FILE *out);

#endif
