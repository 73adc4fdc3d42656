/* SPDX-License-Identifier: MIT */
/*
 * The walk: one step at a time through the source, depth first. It starts jobs for what is not a
 * directory, makes the directories, and gives each its attributes once all in it has ended.
 */
#ifndef COPY_TREE_WALK_H
#define COPY_TREE_WALK_H

#include "copy.h"

/**
 * walk_tree() - copy, or, if tree->counting, count the entry @name of tree->source_parent
 *
 * Failures of single entries are told to tree->progress. A signal ends it early, with everything
 * that was in flight awaited and cleaned up.
 *
 * Return:  0, or -1 with @out_failure set if nothing could be started.
 */
int walk_tree(struct tree *tree, struct copier *copier, const char *name, bool is_directory,
              struct failure *out_failure);

#endif
