# SPDX-License-Identifier: Apache-2.0
# cmake -DNM=.. -DPROGRAM=.. -DOUT=.. -P stub_sites.cmake: the symbols stub_ip_* of the stub's program, "name 0xaddress" a
# line, into OUT, which is left alone if nothing has changed.
execute_process(COMMAND ${NM} ${PROGRAM} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[0-9a-f]+ [A-Za-z] stub_ip_[a-z_]+" lines "${symbols}")
set(text "")
foreach(line IN LISTS lines)
  string(REGEX REPLACE "^([0-9a-f]+) . (.+)$" "\\2 0x\\1\n" entry "${line}")
  string(APPEND text "${entry}")
endforeach()
if(text STREQUAL "")
  message(FATAL_ERROR "${PROGRAM} has no symbols stub_ip_*")
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "${text}" @ONLY)
