// The descriptors 0, 1 and 2, which whoever starts the program may have closed.
#pragma once

namespace liveavatar::cli {

// At the start of main(): a file or socket that is opened later must not become standard output or error. Of what was
// closed nothing can be read, what goes to standard error is dropped, and writing to standard output fails.
void open_standard_streams();

// false: it was closed.
bool has_standard_output();

}  // namespace liveavatar::cli
