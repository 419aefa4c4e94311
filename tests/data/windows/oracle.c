/* What SetupAPI sees of INFs: oracle.exe SECTION FILE... prints for each file a line "file", or "error" with
   Windows' error and the line, then of each line in the section its key and fields, 0x1f before each, as UTF-8. */
#include <windows.h>
#include <setupapi.h>
#include <stdio.h>

static void put(const wchar_t *text)
{
    static char out[65536];
    int length = WideCharToMultiByte(CP_UTF8, 0, text, -1, out, sizeof out, NULL, NULL);

    if (length > 0)
        fwrite(out, 1, length - 1, stdout);
}

int wmain(int argc, wchar_t **argv)
{
    static wchar_t field[16384];

    for (int file = 2; file < argc; file++) {
        UINT line = 0;
        INFCONTEXT at;
        BOOL there;
        HINF inf = SetupOpenInfFileW(argv[file], NULL, INF_STYLE_WIN4, &line);

        if (inf == INVALID_HANDLE_VALUE) {
            printf("error %08lx in line %u\n", GetLastError(), line);
            continue;
        }
        printf("file\n");
        there = SetupFindFirstLineW(inf, argv[1], NULL, &at);
        for (; there; there = SetupFindNextLine(&at, &at)) {
            for (DWORD index = 0; index <= SetupGetFieldCount(&at); index++) {
                printf("\x1f");
                if (SetupGetStringFieldW(&at, index, field, 16384, NULL))
                    put(field);
            }
            printf("\n");
        }
        SetupCloseInfFile(inf);
    }
    return 0;
}
