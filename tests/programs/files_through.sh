#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# files.sh with a root file system that is written through.
# option: --overlay=none
THROUGH=1
. /script/files.sh
